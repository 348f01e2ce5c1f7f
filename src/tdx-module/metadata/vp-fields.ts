import { METADATA_CONTEXT, VCPU_STATE_DETAILS_VMXIP, VP_FIELD } from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { PIN_POSTED_INTERRUPTS, VIRTUAL_APIC } from "../../arch/vmx.js";
import { fail } from "../failure.js";
import { ACCESS, type Accessor, StructureLayout } from "../structures/layout.js";
import { TD_VMCS, TDVPS_LAYOUT, TDVPS_PAGE } from "../structures/tdvps.js";
import type { Vcpu } from "../structures/vcpu.js";
import { type Element, FieldIndex, readElement, writeElement } from "./field-index.js";

/** Fields that are computed when they are read. */
const COMPUTED = new StructureLayout("computed", 0x1000);
const VCPU_STATE_DETAILS = COMPUTED.field("VCPU_STATE_DETAILS", 8, {
  id: VP_FIELD.VCPU_STATE_DETAILS,
  access: ACCESS.HOST,
});

/** Metadata of a vCPU: the fields of TDVPS, the TD VMCS among them. */
export const VP_FIELDS = new FieldIndex(METADATA_CONTEXT.VP, [TDVPS_LAYOUT, COMPUTED]);

export function readVpField(vcpu: Vcpu, element: Element, who: Accessor): bigint {
  if (element.field !== VCPU_STATE_DETAILS) return readElement(vcpu.tdvps, element, who);
  if (who === "guest") fail(TDX_STATUS.METADATA_FIELD_NOT_READABLE);
  return virtualInterruptPending(vcpu) ? VCPU_STATE_DETAILS_VMXIP : 0n;
}

export function writeVpField(vcpu: Vcpu, element: Element, who: Accessor, value: bigint, mask: bigint): bigint {
  const { tdvps } = vcpu;
  const { field } = element;
  const enablesPosting = field === TD_VMCS.PIN_CONTROLS;
  const isHostAddress = field === TD_VMCS.DESCRIPTOR_ADDRESS || field === TD_VMCS.SHARED_EPTP;
  const initialised = tdvps.get(TD_VMCS.NOTIFICATION_VECTOR_SET) && tdvps.get(TD_VMCS.DESCRIPTOR_ADDRESS_SET);
  const old = writeElement(tdvps, element, who, value, mask, -1n, (checked) => {
    if (enablesPosting && checked & BigInt(PIN_POSTED_INTERRUPTS) && !initialised) {
      fail(TDX_STATUS.TD_VMCS_FIELD_NOT_INITIALIZED);
    }
    // The processor follows these addresses with shared KeyIDs; beyond the memory there is nothing to follow.
    if (isHostAddress && checked >= BigInt(tdvps.memory.size)) fail(TDX_STATUS.METADATA_FIELD_VALUE_NOT_VALID);
    return checked;
  });
  if (field === TD_VMCS.NOTIFICATION_VECTOR) tdvps.set(TD_VMCS.NOTIFICATION_VECTOR_SET, 1);
  if (field === TD_VMCS.DESCRIPTOR_ADDRESS) tdvps.set(TD_VMCS.DESCRIPTOR_ADDRESS_SET, 1);
  return old;
}

/** Priority class of the highest vector in a 256-bit register of the virtual-APIC page; -1: none. */
function highestVector(vcpu: Vcpu, register: number): number {
  const page = vcpu.tdvps.pages[TDVPS_PAGE.VAPIC] as number;
  for (let i = 7; i >= 0; i--) {
    const bits = vcpu.tdvps.memory.read32(page + register + i * 16, vcpu.tdvps.keyId);
    if (bits !== 0) return i * 32 + 31 - Math.clz32(bits);
  }
  return -1;
}

/** True if the virtual APIC holds an interrupt above the processor priority, whatever RFLAGS.IF says. */
function virtualInterruptPending(vcpu: Vcpu): boolean {
  const requested = highestVector(vcpu, VIRTUAL_APIC.IRR);
  if (requested < 0) return false;
  const page = vcpu.tdvps.pages[TDVPS_PAGE.VAPIC] as number;
  const taskPriority = vcpu.tdvps.memory.read32(page + VIRTUAL_APIC.TPR, vcpu.tdvps.keyId) & 0xff;
  const processorPriority = Math.max(taskPriority >>> 4, Math.max(highestVector(vcpu, VIRTUAL_APIC.ISR), 0) >>> 4);
  return requested >>> 4 > processorPriority;
}
