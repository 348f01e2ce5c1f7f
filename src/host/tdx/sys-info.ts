import { SYS_FIELD } from "../../arch/linux-tdx-fields.js";
import { PAGE_SIZE } from "../../arch/page.js";
import { TdxBringUpError } from "./bring-up-error.js";
import type { TdxLeaves } from "./leaves.js";

/** One CPUID leaf that the VMM may configure: which of its bits. `subleaf` is null where the leaf has none. */
export interface CpuidConfig {
  readonly leaf: number;
  readonly subleaf: number | null;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** What the module says about itself (struct tdx_sys_info). */
export interface TdxSysInfo {
  readonly version: { readonly major: number; readonly minor: number; readonly update: number };
  readonly features0: bigint;
  readonly cmrs: readonly { readonly base: number; readonly size: number }[];
  readonly maxTdmrs: number;
  readonly maxReservedPerTdmr: number;
  readonly pamtEntrySize: { readonly p4k: number; readonly p2m: number; readonly p1g: number };
  readonly tdcsPages: number;
  readonly tdvpsPages: number;
  readonly attributesFixed0: bigint;
  readonly attributesFixed1: bigint;
  readonly xfamFixed0: bigint;
  readonly xfamFixed1: bigint;
  readonly maxVcpusPerTd: number;
  readonly cpuidConfigs: readonly CpuidConfig[];
}

/** Second half of a leaf id that has no subleaf, and the leaf that stands for none. */
const NO_SUBLEAF = 0xffffffff;
const NO_LEAF = 0xffffffff;

/** Reads the module's global metadata (get_tdx_sys_info). */
export function readSysInfo(leaves: TdxLeaves): TdxSysInfo {
  const read = (field: bigint): bigint => {
    const status = leaves.sysRd(field);
    if (status !== 0n) throw new TdxBringUpError(`TDH.SYS.RD of field 0x${field.toString(16)}`, status);
    return leaves.value;
  };
  const number = (field: bigint): number => Number(read(field));
  const cmrs = Array.from({ length: number(SYS_FIELD.NUM_CMRS) }, (_, i) => ({
    base: number(SYS_FIELD.CMR_BASE + BigInt(i)),
    size: number(SYS_FIELD.CMR_SIZE + BigInt(i)),
  })).filter((cmr) => cmr.size > 0);
  const cpuidConfigs = Array.from({ length: number(SYS_FIELD.NUM_CPUID_CONFIG) }, (_, i): CpuidConfig => {
    const id = read(SYS_FIELD.CPUID_CONFIG_LEAVES + BigInt(i));
    const first = read(SYS_FIELD.CPUID_CONFIG_VALUES + BigInt(2 * i));
    const second = read(SYS_FIELD.CPUID_CONFIG_VALUES + BigInt(2 * i + 1));
    const leaf = low32(id);
    const subleaf = high32(id);
    return {
      leaf: leaf === NO_LEAF ? 0 : leaf,
      subleaf: subleaf === NO_SUBLEAF ? null : subleaf,
      eax: low32(first),
      ebx: high32(first),
      ecx: low32(second),
      edx: high32(second),
    };
  });
  return {
    version: {
      major: number(SYS_FIELD.MAJOR_VERSION),
      minor: number(SYS_FIELD.MINOR_VERSION),
      update: number(SYS_FIELD.UPDATE_VERSION),
    },
    features0: read(SYS_FIELD.TDX_FEATURES0),
    cmrs,
    maxTdmrs: number(SYS_FIELD.MAX_TDMRS),
    maxReservedPerTdmr: number(SYS_FIELD.MAX_RESERVED_PER_TDMR),
    pamtEntrySize: {
      p4k: number(SYS_FIELD.PAMT_4K_ENTRY_SIZE),
      p2m: number(SYS_FIELD.PAMT_2M_ENTRY_SIZE),
      p1g: number(SYS_FIELD.PAMT_1G_ENTRY_SIZE),
    },
    tdcsPages: number(SYS_FIELD.TDCS_BASE_SIZE) / PAGE_SIZE,
    tdvpsPages: number(SYS_FIELD.TDVPS_BASE_SIZE) / PAGE_SIZE,
    attributesFixed0: read(SYS_FIELD.ATTRIBUTES_FIXED0),
    attributesFixed1: read(SYS_FIELD.ATTRIBUTES_FIXED1),
    xfamFixed0: read(SYS_FIELD.XFAM_FIXED0),
    xfamFixed1: read(SYS_FIELD.XFAM_FIXED1),
    maxVcpusPerTd: number(SYS_FIELD.MAX_VCPUS_PER_TD),
    cpuidConfigs,
  };
}

const low32 = (value: bigint): number => Number(value & 0xffff_ffffn);
const high32 = (value: bigint): number => Number(value >> 32n);
