/**
 * How TDX module 1.5 virtualises MSRs (tdx-module facts 7.6). An MSR that has no row here, or lies outside the two ranges
 * of the MSR bitmap, causes #VE.
 */
import { MSR, X2APIC_MSR } from "./msr.js";

/** A feature of the TD on which an MSR depends. */
export type TdFeature =
  | "perfmon"
  | "waitpkg"
  | "tsx"
  | "xfd"
  | "pt"
  | "cet"
  | "pks"
  | "uintr"
  | "lbr"
  | "dca"
  | "tsc-deadline"
  | "pconfig";

/** What happens on an access. */
export type MsrAction =
  /** No VM exit. */
  | "native"
  | "ve"
  | "gp"
  /** The module computes or stores it. */
  | "module";

/** An action, or one that depends on a feature: with it, without it. */
export type MsrPolicy = MsrAction | readonly [feature: TdFeature, withIt: MsrAction, withoutIt: MsrAction];

interface MsrRow {
  readonly first: number;
  readonly last: number;
  readonly read: MsrPolicy;
  readonly write: MsrPolicy;
}

const rows: MsrRow[] = [];
const range = (first: number, last: number, read: MsrPolicy, write: MsrPolicy = read): void => {
  rows.push({ first, last, read, write });
};
const one = (msr: number, read: MsrPolicy, write: MsrPolicy = read): void => range(msr, msr, read, write);
const nativeIf = (feature: TdFeature): MsrPolicy => [feature, "native", "gp"];

one(MSR.IA32_TIME_STAMP_COUNTER, "native", "ve");
one(MSR.IA32_SPEC_CTRL, "native");
one(MSR.IA32_PRED_CMD, "native");
one(MSR.IA32_MKTME_KEYID_PARTITIONING, ["pconfig", "ve", "gp"]);
range(MSR.IA32_SGXLEPUBKEYHASH0, MSR.IA32_SGXLEPUBKEYHASH3, "gp");
range(0x98, MSR.IA32_SMM_MONITOR_CTL, "gp");
one(MSR.IA32_SMBASE, "gp");
one(MSR.IA32_MISC_PACKAGE_CTLS, "native", "ve");
one(MSR.IA32_XAPIC_DISABLE_STATUS, "module", "gp");
range(MSR.IA32_PMC0, 0xc8, nativeIf("perfmon"));
one(MSR.IA32_UMWAIT_CONTROL, nativeIf("waitpkg"));
one(MSR.IA32_ARCH_CAPABILITIES, "module", "gp");
one(MSR.IA32_FLUSH_CMD, "native");
one(MSR.IA32_TSX_CTRL, nativeIf("tsx"));
range(MSR.IA32_SYSENTER_CS, MSR.IA32_SYSENTER_EIP, "native");
range(MSR.IA32_PERFEVTSEL0, 0x18d, nativeIf("perfmon"));
one(MSR.IA32_OVERCLOCKING_STATUS, "gp");
one(MSR.IA32_MISC_ENABLE, ["perfmon", "native", "module"], "ve");
range(MSR.OFFCORE_RSP0, MSR.OFFCORE_RSP1, nativeIf("perfmon"));
range(MSR.IA32_XFD, MSR.IA32_XFD_ERR, nativeIf("xfd"));
one(MSR.IA32_DEBUGCTL, "module");
range(MSR.IA32_PLATFORM_DCA_CAP, MSR.IA32_DCA_0_CAP, ["dca", "ve", "gp"]);
one(0x276, "gp");
one(MSR.IA32_PAT, "native");
range(MSR.IA32_FIXED_CTR0, 0x310, nativeIf("perfmon"));
one(MSR.IA32_PERF_CAPABILITIES, "module", nativeIf("perfmon"));
range(MSR.IA32_FIXED_CTR_CTRL, MSR.IA32_PERF_GLOBAL_INUSE, nativeIf("perfmon"));
range(0x3f1, 0x3f2, nativeIf("perfmon"));
range(0x3f6, 0x3f7, nativeIf("perfmon"));
one(MSR.IA32_VMX_BASIC, "module", "gp");
range(MSR.IA32_VMX_PINBASED_CTLS, MSR.IA32_VMX_ENTRY_CTLS, "ve", "gp");
range(MSR.IA32_VMX_MISC, MSR.IA32_VMX_CR4_FIXED1, "module", "gp");
one(MSR.IA32_VMX_VMCS_ENUM, "ve", "gp");
range(MSR.IA32_VMX_PROCBASED_CTLS2, MSR.IA32_VMX_PROCBASED_CTLS3, "module", "gp");
range(MSR.IA32_A_PMC0, 0x4c8, nativeIf("perfmon"));
one(MSR.IA32_SGX_SVN_STATUS, "gp");
range(MSR.IA32_RTIT_OUTPUT_BASE, 0x561, nativeIf("pt"));
range(MSR.IA32_RTIT_CTL, 0x587, nativeIf("pt"));
one(MSR.IA32_DS_AREA, "native");
range(MSR.IA32_U_CET, MSR.IA32_INTERRUPT_SSP_TABLE, nativeIf("cet"));
one(MSR.IA32_TSC_DEADLINE, ["tsc-deadline", "ve", "gp"]);
one(MSR.IA32_PKRS, nativeIf("pks"));
range(0x800, 0x801, "gp");
one(X2APIC_MSR.ID, "module", "ve");
range(0x804, 0x807, "gp");
range(X2APIC_MSR.TPR, 0x80c, "native");
one(0x80e, "native");
range(X2APIC_MSR.ISR0, 0x827, "native");
range(0x829, 0x82e, "gp");
one(0x831, "gp");
one(X2APIC_MSR.SELF_IPI, "native");
range(0x840, X2APIC_MSR.LAST, "gp");
range(MSR.IA32_TME_CAPABILITY, MSR.IA32_TME_EXCLUDE_BASE, ["pconfig", "ve", "gp"]);
range(MSR.IA32_UINTR_RR, 0x98a, nativeIf("uintr"));
one(MSR.IA32_DEBUG_INTERFACE, "native", "ve");
one(MSR.IA32_BNDCFGS, "gp");
one(0xd93, "gp");
one(MSR.IA32_XSS, "native", "module");
range(MSR.IA32_LBR_0_INFO, 0x12ff, nativeIf("lbr"));
range(MSR.IA32_LBR_CTL, MSR.IA32_LBR_DEPTH, nativeIf("lbr"));
range(MSR.IA32_LBR_0_FROM_IP, 0x16ff, nativeIf("lbr"));
one(MSR.IA32_UARCH_MISC_CTL, "native");
one(MSR.IA32_EFER, "native", "module");
range(MSR.IA32_STAR, MSR.IA32_LSTAR, "native");
one(MSR.IA32_FMASK, "native");
range(MSR.IA32_FS_BASE, MSR.IA32_TSC_AUX, "native");

/** Rows of the table, for the MSR bitmap and for what reads about it. */
export const MSR_TABLE: readonly MsrRow[] = rows;

/** MSRs that the bitmap can speak of: two ranges of this size. */
export const MSR_BITMAP_RANGES = [0, 0xc000_0000] as const;
export const MSR_BITMAP_RANGE_SIZE = 0x2000;

/** Policy for one direction; #VE for what the table does not know. */
export function msrPolicy(msr: number, write: boolean): MsrPolicy {
  const row = rows.find(({ first, last }) => msr >= first && msr <= last);
  if (!row) return "ve";
  return write ? row.write : row.read;
}

/** IA32_ARCH_CAPABILITIES as a TD sees it: native bits that never show, and those that TD_PARAMS decides. */
export const TD_ARCH_CAPABILITIES = {
  HIDDEN: ~((1n << 25n) - 1n) | (1n << 9n) | (1n << 10n) | (1n << 11n) | (7n << 16n) | (7n << 21n),
  /** Native bits that TD_PARAMS may clear, and a bit that it may set. */
  ALLOW: (1n << 4n) | (1n << 20n) | (1n << 24n),
  FORCE: 1n << 19n,
  TSX_CTRL: 1n << 7n,
} as const;
