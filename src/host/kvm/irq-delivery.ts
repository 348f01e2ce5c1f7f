import {
  DELIVERY_MODE,
  DELIVERY_MODE_MASK,
  DELIVERY_MODE_SHIFT,
  ICR,
  MSI,
  X2APIC_BROADCAST,
  XAPIC_BROADCAST,
} from "../../arch/apic.js";
import { ERRNO } from "../../arch/errno.js";
import { KVM_IRQ_ROUTING_MSI } from "../../arch/kvm-uapi.js";

/** A vCPU as a destination of interrupts. */
export interface IrqTarget {
  readonly x2apicId: number;
  readonly ldr: number;
  /** The local APIC accepts interrupts: the vCPU is initialised. */
  readonly apicPresent: boolean;
  /** False: the interrupt merged into one that was pending already. */
  acceptIrq(deliveryMode: number, vector: number): boolean;
}

/** An interrupt message, whoever sends it (struct kvm_lapic_irq). */
export interface LapicIrq {
  vector: number;
  deliveryMode: number;
  logical: boolean;
  shorthand: number;
  destination: number;
  /** Deliver to one of the destinations. */
  redirectionHint: boolean;
}

/** struct kvm_irq_routing_entry. */
export interface IrqRoutingEntry {
  readonly gsi: number;
  readonly type: number;
  readonly flags?: number;
  readonly msi: { readonly addressLo: number; readonly addressHi: number; readonly data: number };
}

/** struct kvm_msi. */
export interface KvmMsi {
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
  readonly flags?: number;
}

/** Capacity of the routing table. */
export const KVM_MAX_IRQ_ROUTES = 4096;

/** Interrupts on their way to the vCPUs of one VM: messages, routes, interprocessor interrupts. */
export class IrqDelivery {
  #routes = new Map<number, IrqRoutingEntry[]>();
  /** KVM_CAP_X2APIC_API: messages carry 32-bit ids, and 0xff is no broadcast. */
  x2apicFormat = false;
  broadcastQuirkDisabled = false;

  constructor(private readonly targets: () => readonly IrqTarget[]) {}

  setRouting(entries: readonly IrqRoutingEntry[]): number {
    if (entries.length > KVM_MAX_IRQ_ROUTES) return -ERRNO.EINVAL;
    const routes = new Map<number, IrqRoutingEntry[]>();
    for (const entry of entries) {
      if (entry.type !== KVM_IRQ_ROUTING_MSI || entry.gsi < 0 || entry.gsi >= KVM_MAX_IRQ_ROUTES) return -ERRNO.EINVAL;
      if (!this.#validAddress(entry.msi.addressHi)) return -ERRNO.EINVAL;
      const list = routes.get(entry.gsi);
      if (list === undefined) routes.set(entry.gsi, [entry]);
      else list.push(entry);
    }
    this.#routes = routes;
    return 0;
  }

  /** Edge on a GSI: its messages are sent when the line rises. 1 if something was delivered, 0 if it merged, -1 if not. */
  setIrq(gsi: number, level: boolean): number {
    let result = -1;
    for (const { msi } of this.#routes.get(gsi) ?? []) {
      if (level) result = Math.max(result, this.sendMsi(msi));
    }
    return result;
  }

  /** 1 delivered, 0 merged, -1 no destination, -EINVAL bad address. */
  sendMsi(msi: KvmMsi): number {
    if (!this.#validAddress(msi.addressHi)) return -ERRNO.EINVAL;
    const low = (msi.addressLo >>> MSI.DESTINATION_SHIFT) & 0xff;
    const destination = this.x2apicFormat ? ((msi.addressHi & 0xffffff00) | low) >>> 0 : low;
    const broadcast = destination === XAPIC_BROADCAST && !this.broadcastQuirkDisabled;
    return this.deliver(
      {
        vector: msi.data & 0xff,
        deliveryMode: (msi.data & DELIVERY_MODE_MASK) >> DELIVERY_MODE_SHIFT,
        logical: (msi.addressLo & MSI.LOGICAL) !== 0,
        shorthand: ICR.SHORTHAND_NONE,
        destination: broadcast ? X2APIC_BROADCAST : destination,
        redirectionHint: (msi.addressLo & MSI.REDIRECTION_HINT) !== 0,
      },
      null,
    );
  }

  /** A write to the ICR of `source`. */
  sendIpi(source: IrqTarget, icrLow: number, destination: number): void {
    this.deliver(
      {
        vector: icrLow & ICR.VECTOR_MASK,
        deliveryMode: (icrLow & DELIVERY_MODE_MASK) >> DELIVERY_MODE_SHIFT,
        logical: (icrLow & ICR.LOGICAL) !== 0,
        shorthand: (icrLow >>> ICR.SHORTHAND_SHIFT) & 3,
        destination,
        redirectionHint: false,
      },
      source,
    );
  }

  /** 1 delivered, 0 merged, -1 no destination. */
  deliver(irq: LapicIrq, source: IrqTarget | null): number {
    const matching = this.targets().filter((target) => target.apicPresent && matches(irq, target, source));
    const one = irq.deliveryMode === DELIVERY_MODE.LOWEST_PRIORITY || (irq.redirectionHint && irq.logical);
    // Lowest priority is spread over the candidates by vector, as KVM does with vector hashing.
    const chosen = one ? matching.slice(irq.vector % (matching.length || 1)).slice(0, 1) : matching;
    let result = -1;
    for (const target of chosen) result = Math.max(result, target.acceptIrq(irq.deliveryMode, irq.vector) ? 1 : 0);
    return result;
  }

  #validAddress(addressHi: number): boolean {
    return !this.x2apicFormat || (addressHi & 0xff) === 0;
  }
}

function matches(irq: LapicIrq, target: IrqTarget, source: IrqTarget | null): boolean {
  switch (irq.shorthand) {
    case ICR.SHORTHAND_SELF:
      return target === source;
    case ICR.SHORTHAND_ALL:
      return true;
    case ICR.SHORTHAND_OTHERS:
      return target !== source;
    default:
      break;
  }
  if (irq.destination === X2APIC_BROADCAST) return true;
  if (!irq.logical) return irq.destination === target.x2apicId;
  const { ldr } = target;
  return irq.destination >>> 16 === ldr >>> 16 && (irq.destination & ldr & 0xffff) !== 0;
}
