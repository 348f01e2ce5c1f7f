/**
 * Metadata field ids as Linux's host and KVM ask for them (arch/x86/virt/vmx/tdx/tdx_global_metadata.c, kvm/vmx/tdx_arch.h;
 * facts: tdx-module 8.2-8.4, kvm-tdx-host 0.3). The context bits may be 0: the leaf decides the context.
 */

/** TDH.SYS.RD. */
export const SYS_FIELD = {
  VENDOR_ID: 0x0800_0002_0000_0000n,
  MINOR_VERSION: 0x0800_0001_0000_0003n,
  MAJOR_VERSION: 0x0800_0001_0000_0004n,
  UPDATE_VERSION: 0x0800_0001_0000_0005n,
  TDX_FEATURES0: 0x0a00_0003_0000_0008n,
  NUM_CMRS: 0x9000_0001_0000_0000n,
  CMR_BASE: 0x9000_0003_0000_0080n,
  CMR_SIZE: 0x9000_0003_0000_0100n,
  MAX_TDMRS: 0x9100_0001_0000_0008n,
  MAX_RESERVED_PER_TDMR: 0x9100_0001_0000_0009n,
  PAMT_4K_ENTRY_SIZE: 0x9100_0001_0000_0010n,
  PAMT_2M_ENTRY_SIZE: 0x9100_0001_0000_0011n,
  PAMT_1G_ENTRY_SIZE: 0x9100_0001_0000_0012n,
  TDCS_BASE_SIZE: 0x9800_0001_0000_0100n,
  TDVPS_BASE_SIZE: 0x9800_0001_0000_0200n,
  ATTRIBUTES_FIXED0: 0x1900_0003_0000_0000n,
  ATTRIBUTES_FIXED1: 0x1900_0003_0000_0001n,
  XFAM_FIXED0: 0x1900_0003_0000_0002n,
  XFAM_FIXED1: 0x1900_0003_0000_0003n,
  NUM_CPUID_CONFIG: 0x9900_0001_0000_0004n,
  MAX_VCPUS_PER_TD: 0x9900_0001_0000_0008n,
  CPUID_CONFIG_LEAVES: 0x9900_0003_0000_0400n,
  /** Two elements per leaf: EAX and EBX, ECX and EDX. */
  CPUID_CONFIG_VALUES: 0x9900_0003_0000_0500n,
} as const;

/** TDH.MNG.RD. */
export const TD_FIELD = {
  TSC_OFFSET: 0x1100_0000_0000_000an,
  TSC_MULTIPLIER: 0x1100_0000_0000_000bn,
  CPUID_VALUES: 0x9410_0003_0000_0000n,
} as const;

/** TDH.VP.RD and TDH.VP.WR; the first four are VMCS encodings. */
export const VP_FIELD = {
  POSTED_INTR_NV: 0x0002n,
  POSTED_INTR_DESC_ADDR: 0x2016n,
  SHARED_EPT_POINTER: 0x203cn,
  PIN_BASED_CONTROLS: 0x4000n,
  PEND_NMI: 0x2000_0000_0000_000bn,
  VCPU_STATE_DETAILS: 0x9100_0000_0000_0100n,
} as const;

/** VCPU_STATE_DETAILS: a virtual interrupt can be delivered. */
export const VCPU_STATE_VMXIP = 1n;

/** CPUID_VALUES element: leaf and subleaf in the id, element 0 EAX and EBX, 1 ECX and EDX. */
export function cpuidValuesField(leaf: number, subleaf: number | null, element: 0 | 1): bigint {
  const leafBits = (BigInt(leaf >>> 31) << 16n) | (BigInt(leaf & 0x7f) << 9n);
  const subleafBits = subleaf === null ? 0x1fen : BigInt(subleaf & 0x7f) << 1n;
  return TD_FIELD.CPUID_VALUES | leafBits | subleafBits | BigInt(element);
}
