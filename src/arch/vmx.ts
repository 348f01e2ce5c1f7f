/** VMX numbers that appear outside the processor (SDM 3C chapters 25 and 26, appendices B and C). */

/** Basic exit reasons (SDM 3C appendix C). */
export const EXIT_REASON = {
  EXCEPTION_NMI: 0,
  EXTERNAL_INTERRUPT: 1,
  TRIPLE_FAULT: 2,
  INIT_SIGNAL: 3,
  SIPI_SIGNAL: 4,
  IO_SMI: 5,
  OTHER_SMI: 6,
  INTERRUPT_WINDOW: 7,
  NMI_WINDOW: 8,
  TASK_SWITCH: 9,
  CPUID: 10,
  GETSEC: 11,
  HLT: 12,
  INVD: 13,
  INVLPG: 14,
  RDPMC: 15,
  RDTSC: 16,
  RSM: 17,
  VMCALL: 18,
  VMCLEAR: 19,
  VMLAUNCH: 20,
  VMPTRLD: 21,
  VMPTRST: 22,
  VMREAD: 23,
  VMRESUME: 24,
  VMWRITE: 25,
  VMXOFF: 26,
  VMXON: 27,
  CR_ACCESS: 28,
  DR_ACCESS: 29,
  IO_INSTRUCTION: 30,
  MSR_READ: 31,
  MSR_WRITE: 32,
  INVALID_GUEST_STATE: 33,
  MSR_LOAD_FAILURE: 34,
  MWAIT: 36,
  MONITOR_TRAP_FLAG: 37,
  MONITOR: 39,
  PAUSE: 40,
  MACHINE_CHECK: 41,
  /** Name used by the TDX module for reason 42. */
  CSTATE_SMI: 42,
  TPR_BELOW_THRESHOLD: 43,
  APIC_ACCESS: 44,
  VIRTUALIZED_EOI: 45,
  GDTR_IDTR_ACCESS: 46,
  LDTR_TR_ACCESS: 47,
  EPT_VIOLATION: 48,
  EPT_MISCONFIG: 49,
  INVEPT: 50,
  RDTSCP: 51,
  PREEMPTION_TIMER: 52,
  INVVPID: 53,
  WBINVD: 54,
  XSETBV: 55,
  APIC_WRITE: 56,
  RDRAND: 57,
  INVPCID: 58,
  VMFUNC: 59,
  ENCLS: 60,
  RDSEED: 61,
  PML_FULL: 62,
  XSAVES: 63,
  XRSTORS: 64,
  PCONFIG: 65,
  SPP: 66,
  UMWAIT: 67,
  TPAUSE: 68,
  LOADIWKEY: 69,
  ENCLV: 70,
  ENQCMD_PASID: 72,
  ENQCMDS_PASID: 73,
  BUS_LOCK: 74,
  NOTIFY: 75,
  SEAMCALL: 76,
  TDCALL: 77,
} as const;

/** Bits of the exit reason above the basic reason. */
export const EXIT_FLAG = {
  BASIC_MASK: 0xffff,
  /** A bus lock was seen as well. */
  BUS_LOCK: 1 << 26,
  VM_ENTRY_FAILURE: 0x8000_0000,
} as const;

/** Interruption information: VM exit, VM entry and IDT-vectoring share the layout (SDM 3C 25.8.3, 25.9.2). */
export const INTERRUPTION = {
  VECTOR_MASK: 0xff,
  TYPE_MASK: 7 << 8,
  TYPE_EXTERNAL: 0 << 8,
  TYPE_NMI: 2 << 8,
  TYPE_HARDWARE_EXCEPTION: 3 << 8,
  TYPE_SOFTWARE_INTERRUPT: 4 << 8,
  TYPE_PRIVILEGED_SOFTWARE_EXCEPTION: 5 << 8,
  TYPE_SOFTWARE_EXCEPTION: 6 << 8,
  ERROR_CODE_VALID: 1 << 11,
  NMI_UNBLOCKING: 1 << 12,
  VALID: 0x8000_0000,
} as const;

/** Exit qualification of an EPT violation (SDM 3C 28.2.1 table 28-7). */
export const EPT_VIOLATION = {
  READ: 1 << 0,
  WRITE: 1 << 1,
  FETCH: 1 << 2,
  ENTRY_READABLE: 1 << 3,
  ENTRY_WRITABLE: 1 << 4,
  ENTRY_EXECUTABLE: 1 << 5,
  LINEAR_VALID: 1 << 7,
  /** Set: the access was by linear address; clear: to a paging structure. */
  LINEAR_ACCESS: 1 << 8,
  USER_PAGE: 1 << 9,
  WRITABLE_PAGE: 1 << 10,
  NX_PAGE: 1 << 11,
  NMI_UNBLOCKED_BY_IRET: 1 << 12,
} as const;

/** Exit qualification of a control-register access (SDM 3C table 28-3). */
export const CR_ACCESS = {
  REGISTER_MASK: 0xf,
  TYPE_SHIFT: 4,
  MOV_TO_CR: 0,
  MOV_FROM_CR: 1,
  CLTS: 2,
  LMSW: 3,
  LMSW_MEMORY: 1 << 6,
  GPR_SHIFT: 8,
  LMSW_SOURCE_SHIFT: 16,
} as const;

/** Exit qualification of an other-SMI exit in SEAM non-root: the SMI is a morphed machine check. */
export const SMI_QUALIFICATION_MSMI = 1;

/** Exit qualification of a notification exit. */
export const NOTIFY_VM_CONTEXT_INVALID = 1;

/** Interruptibility state (SDM 3C 25.4.2). */
export const INTERRUPTIBILITY = { STI: 1 << 0, MOV_SS: 1 << 1, SMI: 1 << 2, NMI: 1 << 3, ENCLAVE: 1 << 4 } as const;

/** Encodings of the TD VMCS fields that the host or the module names (SDM 3C appendix B). */
export const VMCS = {
  VPID: 0x0000,
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0x0002,
  EPTP_INDEX: 0x0004,
  HKID: 0x0006,
  MSR_BITMAP_ADDRESS: 0x2004,
  PML_ADDRESS: 0x200e,
  TSC_OFFSET: 0x2010,
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x2016,
  VM_FUNCTION_CONTROLS: 0x2018,
  EPTP: 0x201a,
  EPTP_LIST_ADDRESS: 0x2024,
  TSC_MULTIPLIER: 0x2032,
  TERTIARY_CONTROLS: 0x2034,
  SHARED_EPTP: 0x203c,
  PIN_CONTROLS: 0x4000,
  PROCESSOR_CONTROLS: 0x4002,
  EXCEPTION_BITMAP: 0x4004,
  EXIT_CONTROLS: 0x400c,
  ENTRY_CONTROLS: 0x4012,
  SECONDARY_CONTROLS: 0x401e,
  PLE_GAP: 0x4020,
  PLE_WINDOW: 0x4022,
  NOTIFY_WINDOW: 0x4024,
  CR0_MASK: 0x6000,
  CR4_MASK: 0x6002,
  CR0_SHADOW: 0x6004,
  CR4_SHADOW: 0x6006,
} as const;

/** Pin-based controls: process posted interrupts. */
export const PIN_POSTED_INTERRUPTS = 0x80;
/** Primary processor-based controls: NMI-window exiting and monitor trap flag. */
export const PROCESSOR_NMI_WINDOW = 1 << 22;
export const PROCESSOR_MONITOR_TRAP_FLAG = 1 << 27;
/** Secondary processor-based controls: bus-lock detection and instruction timeout (bits 31:30). */
export const SECONDARY_BUS_LOCK_DETECTION = 1 << 30;
export const SECONDARY_INSTRUCTION_TIMEOUT = 0x8000_0000;

/** Posted-interrupt descriptor, 64 bytes (SDM 3C 30.6). */
export const POSTED_INTERRUPT_DESCRIPTOR = { PIR: 0, CONTROL: 32, ON: 1, SN: 2 } as const;

/** Virtual-APIC page: offset of a register (SDM 3C 30.1). */
export const VIRTUAL_APIC = { TPR: 0x80, PPR: 0xa0, EOI: 0xb0, ISR: 0x100, TMR: 0x180, IRR: 0x200 } as const;

/** VMX and TDX #VE information area (SDM 3C 26.5.7.2); the TDX module keeps it at the start of TDVPS. */
export const VE_INFO = {
  EXIT_REASON: 0,
  VALID: 4,
  QUALIFICATION: 8,
  GLA: 16,
  GPA: 24,
  EPTP_INDEX: 32,
  INSTRUCTION_LENGTH: 36,
  INSTRUCTION_INFO: 40,
  /** What VALID holds while the guest has not read the area. */
  VALID_VALUE: 0xffff_ffff,
} as const;
