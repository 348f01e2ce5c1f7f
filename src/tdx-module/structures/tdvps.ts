import { VP_FIELD } from "../../arch/tdx-metadata.js";
import { VE_INFO, VMCS } from "../../arch/vmx.js";
import { REG, STATE_BASE } from "../../cpu/layout.js";
import { ACCESS, StructureLayout } from "./layout.js";

/** TDVPS pages of a TD without L2 VMs: TDVPR, TD VMCS, virtual-APIC page, three pages of register state. */
export const TDVPS_PAGES = 6;
export const TDVPS_PAGE = { TDVPR: 0, VMCS: 1, VAPIC: 2, STATE: 3 } as const;

/** TDVPS: what the module knows of a vCPU, accessed with the TD's KeyID. */
export const TDVPS_LAYOUT = new StructureLayout("TDVPS", TDVPS_PAGES * 0x1000);
const field = TDVPS_LAYOUT.field.bind(TDVPS_LAYOUT);
const page = (index: number, offset = 0): number => index * 0x1000 + offset;

/** The architectural #VE information area; the processor writes it too. */
export const VE = {
  EXIT_REASON: field("VE_EXIT_REASON", 4, {
    at: VE_INFO.EXIT_REASON,
    id: VP_FIELD.VE_EXIT_REASON,
    access: ACCESS.DEBUG,
  }),
  VALID: field("VE_VALID", 4, { at: VE_INFO.VALID, id: VP_FIELD.VE_VALID, access: ACCESS.DEBUG }),
  QUALIFICATION: field("VE_QUALIFICATION", 8, {
    at: VE_INFO.QUALIFICATION,
    id: VP_FIELD.VE_QUALIFICATION,
    access: ACCESS.DEBUG,
  }),
  GLA: field("VE_GLA", 8, { at: VE_INFO.GLA, id: VP_FIELD.VE_GLA, access: ACCESS.DEBUG }),
  GPA: field("VE_GPA", 8, { at: VE_INFO.GPA, id: VP_FIELD.VE_GPA, access: ACCESS.DEBUG }),
  EPTP_INDEX: field("VE_EPTP_INDEX", 2, { at: VE_INFO.EPTP_INDEX }),
  INSTRUCTION_LENGTH: field("VE_INSTRUCTION_LENGTH", 4, { at: VE_INFO.INSTRUCTION_LENGTH }),
  INSTRUCTION_INFO: field("VE_INSTRUCTION_INFO", 4, { at: VE_INFO.INSTRUCTION_INFO }),
} as const;

TDVPS_LAYOUT.at(0x100);
/** Management of the vCPU. */
export const TDVPS = {
  STATE: field("VCPU_STATE", 1, { id: VP_FIELD.VCPU_STATE, access: ACCESS.HOST }),
  LAST_TD_EXIT: field("LAST_TD_EXIT", 1, { id: VP_FIELD.LAST_TD_EXIT, access: ACCESS.HOST }),
  PEND_NMI: field("PEND_NMI", 1, { id: VP_FIELD.PEND_NMI, access: ACCESS.hostWrite() }),
  NUM_TDVPX: field("NUM_TDVPX", 1),
  /** A bus lock was seen and not yet reported. */
  BUS_LOCK: field("BUS_LOCK", 1),
  /** Single-step filter: state of the LFSR. */
  LFSR: field("LFSR", 4),
  VCPU_INDEX: field("VCPU_INDEX", 4, { id: VP_FIELD.VCPU_INDEX, access: ACCESS.HOST_GUEST }),
  /** LP that the vCPU is bound to, 0xffffffff: none. */
  ASSOC_LPID: field("ASSOC_LPID", 4, { id: VP_FIELD.ASSOC_LPID, access: ACCESS.HOST }),
  VCPU_EPOCH: field("VCPU_EPOCH", 8, { id: VP_FIELD.VCPU_EPOCH, access: ACCESS.HOST }),
  LAST_EXIT_TSC: field("LAST_EXIT_TSC", 8),
  /** Page addresses: TDVPR itself at 0. */
  TDVPX_PA: field("TDVPX_PA", 8, { count: TDVPS_PAGES }),
  /** Register mask of the TDVMCALL under way (RCX of TDG.VP.VMCALL). */
  VMCALL_MASK: field("VMCALL_MASK", 4),
  /** Zero-step list: RIP of the last private EPT violation, violations there, distinct pages. */
  ZERO_STEP_RIP: field("ZERO_STEP_RIP", 8, { at: 0x200 }),
  ZERO_STEP_COUNT: field("ZERO_STEP_COUNT", 1),
  ZERO_STEP_LENGTH: field("ZERO_STEP_LENGTH", 1),
  ZERO_STEP_GPA: field("ZERO_STEP_GPA", 8, { count: 32 }),
  CPUID_SUPERVISOR_VE: field("CPUID_SUPERVISOR_VE", 1, {
    at: 0x900,
    id: VP_FIELD.CPUID_SUPERVISOR_VE,
    access: ACCESS.guestWriteHostRead(1n),
  }),
  CPUID_USER_VE: field("CPUID_USER_VE", 1, { id: VP_FIELD.CPUID_USER_VE, access: ACCESS.guestWriteHostRead(1n) }),
} as const;

TDVPS_LAYOUT.at(page(TDVPS_PAGE.VMCS));
const vmcsId = (encoding: number): bigint =>
  (0x24n << 48n) | (BigInt([1, 3, 2, 3][encoding >>> 13] as number) << 32n) | BigInt(encoding);
/** TD VMCS: the fields that the host may name, and what must outlive a TD exit. */
export const TD_VMCS = {
  NOTIFICATION_VECTOR: field("POSTED_INTERRUPT_NOTIFICATION_VECTOR", 2, {
    id: VP_FIELD.POSTED_INTERRUPT_NOTIFICATION_VECTOR,
    access: ACCESS.hostWrite(0xffn),
  }),
  /** Set once the host has written the field: enabling posted interrupts needs both. */
  NOTIFICATION_VECTOR_SET: field("NOTIFICATION_VECTOR_SET", 1),
  DESCRIPTOR_ADDRESS_SET: field("DESCRIPTOR_ADDRESS_SET", 1),
  HKID: field("HKID", 2, { id: VP_FIELD.HKID, access: ACCESS.HOST }),
  PIN_CONTROLS: field("PIN_CONTROLS", 4, { id: VP_FIELD.PIN_CONTROLS, access: ACCESS.hostWrite(0x80n) }),
  PROCESSOR_CONTROLS: field("PROCESSOR_CONTROLS", 4, { id: vmcsId(VMCS.PROCESSOR_CONTROLS), access: ACCESS.HOST }),
  SECONDARY_CONTROLS: field("SECONDARY_CONTROLS", 4, {
    id: VP_FIELD.SECONDARY_CONTROLS,
    access: ACCESS.hostWrite(3n << 30n),
  }),
  EXIT_CONTROLS: field("EXIT_CONTROLS", 4, { id: vmcsId(VMCS.EXIT_CONTROLS), access: ACCESS.HOST }),
  ENTRY_CONTROLS: field("ENTRY_CONTROLS", 4, { id: vmcsId(VMCS.ENTRY_CONTROLS), access: ACCESS.HOST }),
  EXCEPTION_BITMAP: field("EXCEPTION_BITMAP", 4, { id: vmcsId(VMCS.EXCEPTION_BITMAP), access: ACCESS.HOST }),
  NOTIFY_WINDOW: field("NOTIFY_WINDOW", 4, { id: VP_FIELD.NOTIFY_WINDOW, access: ACCESS.hostWrite() }),
  PLE_GAP: field("PLE_GAP", 4, { id: vmcsId(VMCS.PLE_GAP), access: ACCESS.HOST }),
  PLE_WINDOW: field("PLE_WINDOW", 4, { id: vmcsId(VMCS.PLE_WINDOW), access: ACCESS.HOST }),
  DESCRIPTOR_ADDRESS: field("POSTED_INTERRUPT_DESCRIPTOR_ADDRESS", 8, {
    id: VP_FIELD.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
    access: ACCESS.hostWrite(~0x3fn & ((1n << 64n) - 1n)),
  }),
  SHARED_EPTP: field("SHARED_EPTP", 8, { id: VP_FIELD.SHARED_EPTP, access: ACCESS.hostWrite(0xf_ffff_ffff_f000n) }),
  EPTP: field("EPTP", 8, { id: VP_FIELD.EPTP, access: ACCESS.HOST }),
  MSR_BITMAP_ADDRESS: field("MSR_BITMAP_ADDRESS", 8, { id: VP_FIELD.MSR_BITMAP_ADDRESS, access: ACCESS.HOST }),
  TSC_OFFSET: field("TSC_OFFSET", 8, { id: VP_FIELD.TSC_OFFSET, access: ACCESS.HOST }),
  TSC_MULTIPLIER: field("TSC_MULTIPLIER", 8, { id: VP_FIELD.TSC_MULTIPLIER, access: ACCESS.HOST }),
  CR0_MASK: field("CR0_MASK", 8, { id: vmcsId(VMCS.CR0_MASK), access: ACCESS.DEBUG_READ }),
  CR0_SHADOW: field("CR0_SHADOW", 8, { id: vmcsId(VMCS.CR0_SHADOW), access: ACCESS.DEBUG_READ }),
  CR4_MASK: field("CR4_MASK", 8, { id: vmcsId(VMCS.CR4_MASK), access: ACCESS.DEBUG_READ }),
  CR4_SHADOW: field("CR4_SHADOW", 8, { id: vmcsId(VMCS.CR4_SHADOW), access: ACCESS.DEBUG_READ }),
  /** Event that the next VM entry must inject again, and the event's companions. */
  ENTRY_INTERRUPTION_INFO: field("ENTRY_INTERRUPTION_INFO", 4),
  ENTRY_ERROR_CODE: field("ENTRY_ERROR_CODE", 4),
  ENTRY_INSTRUCTION_LENGTH: field("ENTRY_INSTRUCTION_LENGTH", 4),
  NMI_WINDOW_EXITING: field("NMI_WINDOW_EXITING", 1),
} as const;

/** The virtual-APIC page. */
export const VAPIC = field("VAPIC", 8, {
  at: page(TDVPS_PAGE.VAPIC),
  count: 128,
  id: VP_FIELD.VAPIC,
  access: ACCESS.DEBUG_READ,
});

const state = (register: number): number => page(TDVPS_PAGE.STATE, register - STATE_BASE);
/** Registers of the register block by name, for a debugging host. */
export const GUEST_STATE = {
  GPR: field("GPR", 8, { at: state(REG.GPR), count: 16, id: VP_FIELD.GPR, access: ACCESS.DEBUG }),
  DR: field("DR", 8, { at: state(REG.DR), count: 6, id: VP_FIELD.DR, access: ACCESS.DEBUG }),
  XCR0: field("XCR0", 8, { at: state(REG.XCR0), id: VP_FIELD.XCR0, access: ACCESS.DEBUG }),
} as const;
