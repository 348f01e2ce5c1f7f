import { APIC_VERSION, DELIVERY_MODE_MASK, DELIVERY_MODE_SHIFT, ICR, LVT, SVR, timerDivisor } from "../../arch/apic.js";
import { X2APIC_MSR } from "../../arch/msr.js";
import { LapicTimer, type LapicTimerHost } from "./lapic-timer.js";

/** What a local APIC asks of the vCPU and the VM around it. */
export interface LapicHost extends LapicTimerHost {
  readonly vcpuId: number;
  /** MCG_CAP has CMCI_P: there is an LVT for corrected machine checks. */
  readonly hasCmci: boolean;
  /** Sends an interprocessor interrupt as the ICR says. */
  sendIpi(icrLow: number, destination: number): void;
  /** An interrupt that a local source delivers here. */
  acceptLocal(deliveryMode: number, vector: number): void;
}

const LVT_BASE = LVT.MASKED | LVT.SEND_PENDING | LVT.VECTOR_MASK;
const LVT_MODE = LVT_BASE | DELIVERY_MODE_MASK;
const LVT_LINT = LVT_MODE | LVT.POLARITY | LVT.REMOTE_IRR | LVT.LEVEL;

/** LVT registers with the bits that can be set (apic_lvt_mask); the timer's are below. */
const LVT_MASKS = new Map<number, number>([
  [X2APIC_MSR.LVT_TIMER, LVT_BASE | LVT.TIMER_MODE_MASK],
  [X2APIC_MSR.LVT_THERMAL, LVT_MODE],
  [X2APIC_MSR.LVT_PERFMON, LVT_MODE],
  [X2APIC_MSR.LVT_LINT0, LVT_LINT],
  [X2APIC_MSR.LVT_LINT1, LVT_LINT],
  [X2APIC_MSR.LVT_ERROR, LVT_BASE],
  [X2APIC_MSR.LVT_CMCI, LVT_MODE],
]);
const LVTS_WITHOUT_CMCI = 6;
const TDCR_WRITABLE = 0xb;

/**
 * The part of a TD's local APIC that KVM emulates: what the virtual-APIC page of the processor does not hold (kvm-tdx-host 6.1,
 * 6.3; arch/x86/kvm/lapic.c). Mode is x2APIC always. Registers are named by their MSR numbers.
 */
export class LocalApic {
  readonly timer: LapicTimer;
  readonly #lvt = new Map<number, number>();
  #svr: number = SVR.RESET;
  #tdcr = 0;
  #icr = 0n;

  constructor(private readonly host: LapicHost) {
    for (const register of LVT_MASKS.keys()) this.#lvt.set(register, LVT.MASKED);
    this.timer = new LapicTimer(host);
  }

  /** x2APIC id. */
  get id(): number {
    return this.host.vcpuId;
  }

  /** Logical id of x2APIC mode: cluster, and the processor's bit in it. */
  get ldr(): number {
    return ((this.id >>> 4) << 16) | (1 << (this.id & 0xf));
  }

  get softwareEnabled(): boolean {
    return (this.#svr & SVR.ENABLED) !== 0;
  }

  /** Reads a register; null: there is none to read. */
  read(register: number): bigint | null {
    switch (register) {
      case X2APIC_MSR.ID:
        return BigInt(this.id);
      case X2APIC_MSR.VERSION:
        return BigInt(this.#version());
      case X2APIC_MSR.LDR:
        return BigInt(this.ldr);
      case X2APIC_MSR.SVR:
        return BigInt(this.#svr);
      case X2APIC_MSR.ESR:
        return 0n;
      case X2APIC_MSR.ICR:
        return this.#icr;
      case X2APIC_MSR.INITIAL_COUNT:
        return BigInt(this.timer.initialCount);
      case X2APIC_MSR.CURRENT_COUNT:
        return BigInt(this.timer.currentCount());
      case X2APIC_MSR.DIVIDE_CONFIGURATION:
        return BigInt(this.#tdcr);
      default:
        return this.#hasLvt(register) ? BigInt(this.#lvt.get(register) ?? 0) : null;
    }
  }

  /** Writes a register; false: the write is refused. */
  write(register: number, value: bigint): boolean {
    if (register === X2APIC_MSR.ICR) {
      const low = Number(value & 0xffff_ffffn) & ~ICR.PENDING;
      this.#icr = (value & ~0xffff_ffffn) | BigInt(low >>> 0);
      this.host.sendIpi(low, Number(value >> 32n));
      return true;
    }
    if (value > 0xffff_ffffn) return false;
    const low = Number(value);
    switch (register) {
      case X2APIC_MSR.SVR:
        this.#writeSvr(low);
        return true;
      case X2APIC_MSR.ESR:
        return low === 0;
      case X2APIC_MSR.INITIAL_COUNT:
        if (this.timer.mode !== LVT.TIMER_TSC_DEADLINE) this.timer.startCount(low);
        return true;
      case X2APIC_MSR.DIVIDE_CONFIGURATION:
        this.#tdcr = low & TDCR_WRITABLE;
        this.timer.setDivisor(timerDivisor(this.#tdcr));
        return true;
      default:
        return this.#writeLvt(register, low);
    }
  }

  /** A local interrupt source fired (kvm_apic_local_deliver). */
  deliverLocal(register: number): void {
    const entry = this.#lvt.get(register) ?? LVT.MASKED;
    if ((entry & LVT.MASKED) !== 0) return;
    this.host.acceptLocal((entry & DELIVERY_MODE_MASK) >> DELIVERY_MODE_SHIFT, entry & LVT.VECTOR_MASK);
  }

  /** Vector of the timer's LVT. */
  get timerVector(): number {
    return (this.#lvt.get(X2APIC_MSR.LVT_TIMER) ?? 0) & LVT.VECTOR_MASK;
  }

  #version(): number {
    const lvts = this.host.hasCmci ? LVTS_WITHOUT_CMCI + 1 : LVTS_WITHOUT_CMCI;
    return APIC_VERSION.NUMBER | ((lvts - 1) << APIC_VERSION.MAX_LVT_SHIFT) | APIC_VERSION.DIRECTED_EOI;
  }

  #hasLvt(register: number): boolean {
    return LVT_MASKS.has(register) && (register !== X2APIC_MSR.LVT_CMCI || this.host.hasCmci);
  }

  #writeSvr(value: number): void {
    this.#svr = value & (SVR.WRITABLE | SVR.DIRECTED_EOI);
    if (this.softwareEnabled) return;
    for (const [register, entry] of this.#lvt) this.#lvt.set(register, entry | LVT.MASKED);
  }

  #writeLvt(register: number, value: number): boolean {
    if (!this.#hasLvt(register)) return false;
    const writable = (LVT_MASKS.get(register) ?? 0) & ~LVT.SEND_PENDING & ~LVT.REMOTE_IRR;
    let entry = value & writable;
    if (!this.softwareEnabled) entry |= LVT.MASKED;
    this.#lvt.set(register, entry);
    if (register === X2APIC_MSR.LVT_TIMER) {
      this.timer.setMode((entry & LVT.TIMER_MODE_MASK) >> LVT.TIMER_MODE_SHIFT);
    }
    return true;
  }
}
