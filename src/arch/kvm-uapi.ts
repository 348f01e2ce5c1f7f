/**
 * KVM's user interface: numbers of exits, capabilities and commands (Linux include/uapi/linux/kvm.h,
 * arch/x86/include/uapi/asm/kvm.h, Documentation/virt/kvm/api.rst and x86/intel-tdx.rst). The ioctl-shaped API in
 * src/host/kvm takes objects where the kernel takes structures; their fields are the structure's, in camelCase.
 */

export const KVM_API_VERSION = 12;

/** KVM_CREATE_VM types; a type is also a bit in KVM_CAP_VM_TYPES. */
export const KVM_X86_DEFAULT_VM = 0;
export const KVM_X86_TDX_VM = 5;

/** Capabilities (KVM_CHECK_EXTENSION, KVM_ENABLE_CAP). */
export const KVM_CAP = {
  IRQCHIP: 0,
  HLT: 1,
  USER_MEMORY: 3,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  MP_STATE: 14,
  IRQ_ROUTING: 25,
  MCE: 31,
  MAX_VCPUS: 66,
  TSC_CONTROL: 60,
  GET_TSC_KHZ: 61,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  READONLY_MEM: 81,
  X86_SMM: 117,
  SPLIT_IRQCHIP: 121,
  MAX_VCPU_ID: 128,
  X2APIC_API: 129,
  IMMEDIATE_EXIT: 136,
  X86_USER_SPACE_MSR: 188,
  EXIT_HYPERCALL: 201,
  VM_TSC_CONTROL: 214,
  MEMORY_FAULT_INFO: 232,
  USER_MEMORY2: 231,
  MEMORY_ATTRIBUTES: 233,
  GUEST_MEMFD: 234,
  VM_TYPES: 235,
  PRE_FAULT_MEMORY: 236,
  X86_APIC_BUS_CYCLES_NS: 237,
} as const;

/** kvm_run.exit_reason. */
export const KVM_EXIT = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  MEMORY_FAULT: 39,
  TDX: 40,
} as const;

const NAMES_OF_EXIT = new Map<number, string>(
  Object.entries(KVM_EXIT).map(([name, number]) => [number, `KVM_EXIT_${name}`]),
);

/** "KVM_EXIT_INTERNAL_ERROR" for 17; unknown reasons in decimal. */
export function kvmExitName(reason: number): string {
  return NAMES_OF_EXIT.get(reason) ?? String(reason);
}

/** kvm_run.internal.suberror. */
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;

/** kvm_run.io.direction. */
export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;

/** kvm_run.system_event.type. */
export const KVM_SYSTEM_EVENT_TDX_FATAL = 7;

/** kvm_run.memory_fault.flags. */
export const KVM_MEMORY_EXIT_FLAG_PRIVATE = 1 << 3;

/** kvm_run.msr.reason. */
export const KVM_MSR_EXIT_REASON_INVAL = 1;
export const KVM_MSR_EXIT_REASON_UNKNOWN = 2;

/** kvm_run.hypercall for KVM_HC_MAP_GPA_RANGE: attributes in args[2], and the flag of a 64-bit caller. */
export const KVM_MAP_GPA_RANGE_ENCRYPTED = 1 << 4;
export const KVM_MAP_GPA_RANGE_DECRYPTED = 0;
export const KVM_EXIT_HYPERCALL_LONG_MODE = 1;

/** Hypercall numbers and errors (uapi/linux/kvm_para.h). */
export const KVM_HC = {
  VAPIC_POLL_IRQ: 1,
  KICK_CPU: 5,
  CLOCK_PAIRING: 9,
  SEND_IPI: 10,
  SCHED_YIELD: 11,
  MAP_GPA_RANGE: 12,
} as const;
export const KVM_ENOSYS = 1000;

/** KVM's paravirtual CPUID leaves and the feature bits of 0x40000001.EAX that a TD may have. */
export const KVM_CPUID_SIGNATURE = 0x40000000;
export const KVM_CPUID_FEATURES = 0x40000001;
export const KVM_FEATURE = {
  NOP_IO_DELAY: 1,
  PV_UNHALT: 7,
  PV_SEND_IPI: 11,
  POLL_CONTROL: 12,
  PV_SCHED_YIELD: 13,
  MSI_EXT_DEST_ID: 15,
} as const;
export const MSR_KVM_POLL_CONTROL = 0x4b564d05;

/** struct kvm_userspace_memory_region2.flags. */
export const KVM_MEM_LOG_DIRTY_PAGES = 1 << 0;
export const KVM_MEM_READONLY = 1 << 1;
export const KVM_MEM_GUEST_MEMFD = 1 << 2;

/** Memory attributes (KVM_SET_MEMORY_ATTRIBUTES). */
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 1 << 3;

/** struct kvm_cpuid_entry2.flags. */
export const KVM_CPUID_FLAG_SIGNIFICANT_INDEX = 1;
export const KVM_MAX_CPUID_ENTRIES = 256;

/** KVM_CAP_X2APIC_API flags. */
export const KVM_X2APIC_API_USE_32BIT_IDS = 1 << 0;
export const KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 1 << 1;

/** KVM_CAP_X86_USER_SPACE_MSR: which refused MSR accesses exit to user space. */
export const KVM_MSR_EXIT_REASON_MASK = KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN;

/** struct kvm_irq_routing_entry.type. */
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;

/** KVM_GET/SET_MP_STATE. */
export const KVM_MP_STATE = { RUNNABLE: 0, UNINITIALIZED: 1, INIT_RECEIVED: 2, HALTED: 3, SIPI_RECEIVED: 4 } as const;

/** KVM_MEMORY_ENCRYPT_OP commands of a TD (struct kvm_tdx_cmd.id). */
export const KVM_TDX = {
  CAPABILITIES: 0,
  INIT_VM: 1,
  INIT_VCPU: 2,
  INIT_MEM_REGION: 3,
  FINALIZE_VM: 4,
  GET_CPUID: 5,
} as const;

/** struct kvm_tdx_cmd.flags of KVM_TDX_INIT_MEM_REGION: extend MRTD by the contents. */
export const KVM_TDX_MEASURE_MEMORY_REGION = 1;

/** Bytes that struct kvm_run and its data pages take. */
export const KVM_VCPU_MMAP_SIZE = 3 * 4096;
