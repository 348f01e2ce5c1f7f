import { ATTRIBUTES } from "../arch/tdx-abi.js";
import { CPUID_BIT, XFAM } from "../arch/tdx-cpuid.js";
import type { MsrAction, MsrPolicy, TdFeature } from "../arch/tdx-msr.js";
import { cpuidValue } from "./cpuid-values.js";
import type { Td } from "./structures/td.js";
import { TDCS } from "./structures/tdcs.js";

/** True if the TD has a feature, by its attributes, XFAM and CPUID. */
export function hasFeature(td: Td, feature: TdFeature): boolean {
  const xfam = (mask: number): boolean => (td.tdcs.get(TDCS.XFAM) & mask) !== 0;
  const attribute = (mask: bigint): boolean => (td.tdcs.get64(TDCS.ATTRIBUTES) & mask) !== 0n;
  const cpuid = (leaf: number, subleaf: number | null, register: number, bit: number): boolean =>
    (cpuidValue(td, leaf, subleaf, register) & bit) !== 0;
  switch (feature) {
    case "perfmon":
      return attribute(ATTRIBUTES.PERFMON);
    case "pks":
      return attribute(ATTRIBUTES.PKS);
    case "pt":
      return xfam(XFAM.PT);
    case "cet":
      return xfam(XFAM.CET);
    case "uintr":
      return xfam(XFAM.UINTR);
    case "lbr":
      return xfam(XFAM.LBR);
    case "xfd":
      return xfam(XFAM.AMX);
    case "waitpkg":
      return cpuid(7, 0, 2, CPUID_BIT.L7_ECX_WAITPKG);
    case "tsx":
      return cpuid(7, 0, 1, CPUID_BIT.L7_EBX_HLE | CPUID_BIT.L7_EBX_RTM);
    case "pconfig":
      return cpuid(7, 0, 3, CPUID_BIT.L7_EDX_PCONFIG);
    case "dca":
      return cpuid(1, null, 2, CPUID_BIT.L1_ECX_DCA);
    case "tsc-deadline":
      return cpuid(1, null, 2, CPUID_BIT.L1_ECX_TSC_DEADLINE);
  }
}

/** What a policy means for this TD. */
export function resolvePolicy(td: Td, policy: MsrPolicy): MsrAction {
  if (typeof policy === "string") return policy;
  const [feature, withIt, withoutIt] = policy;
  return hasFeature(td, feature) ? withIt : withoutIt;
}
