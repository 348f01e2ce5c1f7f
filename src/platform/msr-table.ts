import {
  APIC_BASE,
  ARCH_CAPABILITIES,
  FEATURE_CONTROL,
  KEYID_PARTITIONING,
  MISC_ENABLE,
  MSR,
  MTRRCAP,
  SMRR,
  TME_ACTIVATE,
  X2APIC_MSR,
} from "../arch/msr.js";
import { type KeyIdLayout, MAX_PHYSICAL_ADDRESS_BITS, type MemoryMap, type ResolvedConfig } from "./config.js";

/** What a register's value after power-on (firmware's work included) may depend on. */
export interface ResetContext {
  readonly config: ResolvedConfig;
  readonly keyIds: KeyIdLayout;
  readonly map: MemoryMap;
  readonly lp: number;
}

/** A register that only stores: its first value and the bits that WRMSR may change (null: read only, any write is #GP). */
export interface StoredMsr {
  readonly index: number;
  readonly reset: bigint | ((context: ResetContext) => bigint);
  readonly writable: bigint | null;
}

const ALL = 0xffff_ffff_ffff_ffffn;

const constant = (index: number, reset: StoredMsr["reset"]): StoredMsr => ({ index, reset, writable: null });
const storage = (index: number, reset: StoredMsr["reset"] = 0n, writable = ALL): StoredMsr => ({
  index,
  reset,
  writable,
});

/** Protects SMRAM, and is locked before the operating system starts. */
const smrrMask = ({ map }: ResetContext): bigint =>
  ((1n << BigInt(MAX_PHYSICAL_ADDRESS_BITS)) - BigInt(map.smram.size)) | SMRR.VALID | SMRR.LOCK;

const tmeActivate = ({ config }: ResetContext): bigint =>
  TME_ACTIVATE.LOCK |
  TME_ACTIVATE.ENABLE |
  (BigInt(config.keyIdBits) << TME_ACTIVATE.KEYID_BITS_SHIFT) |
  (BigInt(config.tdxReservedKeyIdBits) << TME_ACTIVATE.TDX_RESERVED_KEYID_BITS_SHIFT) |
  // MKTME keys: AES-XTS-128 without and with integrity.
  (3n << TME_ACTIVATE.ALGORITHMS_SHIFT);

const keyIdPartitioning = ({ keyIds }: ResetContext): bigint =>
  (BigInt(keyIds.firstPrivateKeyId - 1) << KEYID_PARTITIONING.MKTME_SHIFT) |
  (BigInt(keyIds.keyIdCount - keyIds.firstPrivateKeyId) << KEYID_PARTITIONING.TDX_SHIFT);

/** The CPU has no known flaw, so that a guest needs no workaround; x2APIC mode is locked, as TDX demands. */
const ARCH_CAPABILITIES_VALUE =
  ARCH_CAPABILITIES.RDCL_NO |
  ARCH_CAPABILITIES.IBRS_ALL |
  ARCH_CAPABILITIES.SKIP_L1DFL_VMENTRY |
  ARCH_CAPABILITIES.MDS_NO |
  ARCH_CAPABILITIES.IF_PSCHANGE_MC_NO |
  ARCH_CAPABILITIES.TAA_NO |
  ARCH_CAPABILITIES.MISC_PACKAGE_CTLS |
  ARCH_CAPABILITIES.ENERGY_FILTERING_CTL |
  ARCH_CAPABILITIES.DOITM |
  ARCH_CAPABILITIES.SBDR_SSDP_NO |
  ARCH_CAPABILITIES.FBSDP_NO |
  ARCH_CAPABILITIES.PSDP_NO |
  ARCH_CAPABILITIES.FB_CLEAR |
  ARCH_CAPABILITIES.BHI_NO |
  ARCH_CAPABILITIES.XAPIC_DISABLE_STATUS |
  ARCH_CAPABILITIES.PBRSB_NO |
  ARCH_CAPABILITIES.GDS_NO |
  ARCH_CAPABILITIES.RFDS_NO;

/** CR4 bits that a CPU with our CPUID allows: VME to PCE, OSFXSR, OSXMMEXCPT, VMXE, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP. */
export const CR4_ALLOWED = 0x3727ffn;

/** Allowed-0 settings in 31:0 (bits that must be 1), allowed-1 in 63:32. */
const controls = (mustBeOne: bigint, mayBeOne: bigint): bigint => (mayBeOne << 32n) | mustBeOne;

/** Variable MTRRs of IA32_MTRRCAP. */
const MTRR_COUNT = 10;
const FIXED_MTRRS = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/** Registers that hold what is written to them, in order of their number (SDM volume 4). */
export const STORED_MSRS: readonly StoredMsr[] = [
  storage(
    MSR.IA32_APIC_BASE,
    ({ lp }) => APIC_BASE.ADDRESS | APIC_BASE.ENABLE | APIC_BASE.EXTD | (lp === 0 ? APIC_BASE.BSP : 0n),
    0n,
  ),
  constant(MSR.IA32_FEATURE_CONTROL, ({ config }) => {
    return FEATURE_CONTROL.LOCK | FEATURE_CONTROL.VMX_OUTSIDE_SMX | (config.lmce ? FEATURE_CONTROL.LMCE_ON : 0n);
  }),
  storage(MSR.IA32_TSC_ADJUST),
  storage(MSR.IA32_SPEC_CTRL),
  constant(MSR.IA32_MKTME_KEYID_PARTITIONING, keyIdPartitioning),
  // Revision of a microcode patch in 63:32; its number is without meaning here.
  storage(MSR.IA32_BIOS_SIGN_ID, 0x2b00_0603n << 32n, 0n),
  constant(MSR.IA32_SMM_MONITOR_CTL, 0n),
  storage(MSR.IA32_MISC_PACKAGE_CTLS),
  constant(MSR.IA32_XAPIC_DISABLE_STATUS, 1n),
  constant(MSR.IA32_PLATFORM_INFO, 10n << 8n),
  constant(MSR.IA32_CORE_CAPABILITIES, 0n),
  constant(
    MSR.IA32_MTRRCAP,
    BigInt(MTRR_COUNT) | MTRRCAP.FIXED | MTRRCAP.WRITE_COMBINING | MTRRCAP.SMRR | MTRRCAP.SMRR_LOCK,
  ),
  constant(MSR.IA32_ARCH_CAPABILITIES, ARCH_CAPABILITIES_VALUE),
  storage(MSR.MISC_FEATURES_ENABLES),
  storage(MSR.IA32_SYSENTER_CS),
  storage(MSR.IA32_SYSENTER_ESP),
  storage(MSR.IA32_SYSENTER_EIP),
  // Data poisoning is on: an uncorrectable line travels as poison until somebody consumes it.
  storage(MSR.MCG_CONTAIN, 1n, 1n),
  storage(MSR.ERROR_CONTROL),
  storage(MSR.IA32_MISC_ENABLE, MISC_ENABLE.FAST_STRINGS | MISC_ENABLE.BTS_UNAVAILABLE | MISC_ENABLE.PEBS_UNAVAILABLE),
  storage(MSR.IA32_DEBUGCTL),
  constant(MSR.IA32_SMRR_PHYSBASE, ({ map }) => BigInt(map.smram.base) | SMRR.TYPE_WB),
  constant(MSR.IA32_SMRR_PHYSMASK, smrrMask),
  storage(MSR.POWER_CTL),
  ...Array.from({ length: 2 * MTRR_COUNT }, (_, i) => storage(MSR.IA32_MTRR_PHYSBASE0 + i)),
  ...FIXED_MTRRS.map((index) => storage(index, 0x0606_0606_0606_0606n)),
  storage(MSR.IA32_PAT, 0x0007_0406_0007_0406n),
  storage(MSR.IA32_MTRR_DEF_TYPE, 0xc06n),
  constant(MSR.IA32_PERF_CAPABILITIES, 0n),
  // VMCS of 4 KiB, write-back, INS/OUTS information, TRUE controls; no dual-monitor treatment.
  constant(MSR.IA32_VMX_BASIC, (1n << 55n) | (1n << 54n) | (6n << 50n) | (0x1000n << 32n) | 0x13n),
  constant(MSR.IA32_VMX_PINBASED_CTLS, controls(0x16n, 0xffn)),
  constant(MSR.IA32_VMX_PROCBASED_CTLS, controls(0x0401_e172n, 0xfff9_fffen)),
  constant(MSR.IA32_VMX_EXIT_CTLS, controls(0x0003_6dffn, 0x1fff_fdfbn | 0x3_6dffn)),
  constant(MSR.IA32_VMX_ENTRY_CTLS, controls(0x0000_11ffn, 0x003f_f3ffn)),
  constant(MSR.IA32_VMX_MISC, 0x7004_c1e7n),
  constant(MSR.IA32_VMX_CR0_FIXED0, 0x8000_0021n),
  constant(MSR.IA32_VMX_CR0_FIXED1, 0xffff_ffffn),
  constant(MSR.IA32_VMX_CR4_FIXED0, 0x2000n),
  constant(MSR.IA32_VMX_CR4_FIXED1, CR4_ALLOWED),
  constant(MSR.IA32_VMX_VMCS_ENUM, 0x5en),
  constant(MSR.IA32_VMX_PROCBASED_CTLS2, controls(0n, 0xffff_ffffn)),
  // Page walks of 4 levels, write-back, 2 MiB and 1 GiB pages, INVEPT, accessed and dirty flags, INVVPID.
  constant(MSR.IA32_VMX_EPT_VPID_CAP, 0x0f01_0633_4141n),
  constant(MSR.IA32_VMX_TRUE_PINBASED_CTLS, controls(0x16n, 0xffn)),
  constant(MSR.IA32_VMX_TRUE_PROCBASED_CTLS, controls(0x0400_6172n, 0xfff9_fffen)),
  constant(MSR.IA32_VMX_TRUE_EXIT_CTLS, controls(0x0003_6dfbn, 0x1fff_fffbn)),
  constant(MSR.IA32_VMX_TRUE_ENTRY_CTLS, controls(0x0000_11fbn, 0x003f_f3fbn)),
  constant(MSR.IA32_VMX_VMFUNC, 0n),
  storage(MSR.IA32_DS_AREA),
  storage(MSR.IA32_TSC_DEADLINE),
  storage(X2APIC_MSR.LVT_CMCI, 1n << 16n),
  // AES-XTS-128 without and with integrity; widths and number of KeyIDs.
  constant(MSR.IA32_TME_CAPABILITY, ({ config, keyIds }) => {
    return 3n | (BigInt(config.keyIdBits) << 32n) | (BigInt(keyIds.keyIdCount - 1) << 36n);
  }),
  constant(MSR.IA32_TME_ACTIVATE, tmeActivate),
  constant(MSR.IA32_TME_EXCLUDE_MASK, 0n),
  constant(MSR.IA32_TME_EXCLUDE_BASE, 0n),
  storage(MSR.IA32_DEBUG_INTERFACE, 1n << 30n, 0n),
  storage(MSR.IA32_XSS, 0n, 0n),
  storage(MSR.IA32_UARCH_MISC_CTL),
  storage(MSR.IA32_EFER, 0xd01n),
  storage(MSR.IA32_STAR),
  storage(MSR.IA32_LSTAR),
  storage(MSR.IA32_CSTAR),
  storage(MSR.IA32_FMASK),
  storage(MSR.IA32_FS_BASE),
  storage(MSR.IA32_GS_BASE),
  storage(MSR.IA32_KERNEL_GS_BASE),
  storage(MSR.IA32_TSC_AUX),
];

/** Commands: written for their effect, which nobody sees here; reading them is #GP. */
export const COMMAND_MSRS: ReadonlySet<number> = new Set([MSR.IA32_PRED_CMD, MSR.IA32_FLUSH_CMD]);
