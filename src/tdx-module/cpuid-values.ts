import { ATTRIBUTES, OPERAND } from "../arch/tdx-abi.js";
import {
  CPUID_BIT,
  CPUID_CONFIG_ORDER,
  CPUID_MAX_BASIC,
  CPUID_MAX_EXTENDED,
  CPUID_TABLE,
  CPUID_TDX,
  CPUID_XFAM_BITS,
  type CpuidRow,
  TD_CRYSTAL_HZ,
} from "../arch/tdx-cpuid.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR } from "../platform/seam.js";
import type { Call } from "./call.js";
import { fail } from "./failure.js";
import type { Td } from "./structures/td.js";
import { TDCS } from "./structures/tdcs.js";

/** CPUID values of a TD: computed once, at TDH.MNG.INIT, from the native values and TD_PARAMS (tdx-module facts 7.5). */

const NO_SUBLEAF = 0xff;
const key = (leaf: number, subleaf: number | null): number =>
  (leaf >= 0x8000_0000 ? 0x80 : 0) * 0x1_0000 + (leaf & 0xff) * 0x100 + (subleaf ?? NO_SUBLEAF);
const INDEX = new Map(CPUID_TABLE.map((row, index) => [key(row.leaf, row.subleaf), index]));

/** Index in the table of a leaf and sub-leaf (null: a leaf without sub-leaves), -1 if there is none. */
export const cpuidIndex = (leaf: number, subleaf: number | null): number =>
  subleaf !== null && subleaf >= NO_SUBLEAF ? -1 : (INDEX.get(key(leaf, subleaf)) ?? -1);

/** One register (0 = EAX) of a value in a TD's table. */
export const cpuidRegister = (td: Td, index: number, register: number): number =>
  td.tdcs.memory.read32(
    td.tdcs.address(TDCS.CPUID_VALUES, index * 2 + (register >> 1)) + (register & 1) * 4,
    td.hkid,
  ) >>> 0;

/** The same by leaf; 0 if the leaf is not in the table. */
export function cpuidValue(td: Td, leaf: number, subleaf: number | null, register: number): number {
  const index = cpuidIndex(leaf, subleaf);
  return index < 0 ? 0 : cpuidRegister(td, index, register);
}

/** A row that TD_PARAMS configures: bits that it may set, given what the processor has. */
export interface CpuidConfig {
  readonly index: number;
  readonly row: CpuidRow;
}
export const CPUID_CONFIGS: readonly CpuidConfig[] = CPUID_CONFIG_ORDER.map(([leaf, subleaf]) => {
  const index = cpuidIndex(leaf, subleaf);
  return { index, row: CPUID_TABLE[index] as CpuidRow };
});

/**
 * Bits of a register that the host may set: configurable ones, and native ones that may be cleared. TDH.SYS.RD of 1.5.01
 * names only the former; late 1.5 modules name both everywhere, as TDH.SYS.INFO always did, and hosts rely on it.
 */
export const configurableBits = ({ index, row }: CpuidConfig, native: readonly number[][], register: number): number =>
  ((row.configurable[register] as number) | ((row.allowed[register] as number) & (native[index]?.[register] ?? 0))) >>>
  0;

/** What decides the values beside TD_PARAMS' own CPUID values. */
export interface CpuidInputs {
  readonly attributes: bigint;
  readonly xfam: number;
  readonly tscFrequency: number;
}

/** Computes all values; `config` has four registers per row of `CPUID_CONFIGS`. Row by row, four numbers each. */
export function computeCpuid(call: Call, config: Uint32Array, inputs: CpuidInputs): number[][] {
  const native = call.state.nativeCpuid;
  const configOf = new Map(CPUID_CONFIGS.map((entry, i) => [entry.index, i]));
  const values = CPUID_TABLE.map((row, index) => {
    const i = configOf.get(index);
    const asked = i === undefined ? [0, 0, 0, 0] : [...config.subarray(i * 4, i * 4 + 4)];
    if (i !== undefined) checkConfig(call, row, asked, native[index] ?? [], inputs);
    return rowValue(row, native[index] ?? [0, 0, 0, 0], asked, inputs);
  });
  patch(values, inputs);
  return values;
}

function checkConfig(
  call: Call,
  row: CpuidRow,
  asked: number[],
  native: readonly number[],
  { attributes }: CpuidInputs,
): void {
  const refuse = (): never => {
    call.out.setHalves(GPR.RCX, row.leaf, row.subleaf ?? 0xffff_ffff);
    fail(TDX_STATUS.OPERAND_INVALID, OPERAND.CPUID_CONFIG);
  };
  for (let r = 0; r < 4; r++) {
    const legal = (row.configurable[r] as number) | (row.allowed[r] as number);
    if ((asked[r] as number) & ~legal) refuse();
  }
  // Family, model and stepping are the processor's own, 0 stands for them.
  if (row.leaf !== 1 || (attributes & ATTRIBUTES.MIGRATABLE) !== 0n) return;
  const fms = row.configurable[0];
  if (asked[0] === 0) asked[0] = (native[0] as number) & fms;
  else if (asked[0] !== ((native[0] as number) & fms) >>> 0) refuse();
}

function rowValue(row: CpuidRow, native: readonly number[], asked: readonly number[], inputs: CpuidInputs): number[] {
  const present =
    row.source === "native" ||
    (row.source === "xfam" && (inputs.xfam & row.xfam) !== 0) ||
    (row.source === "perfmon" && (inputs.attributes & ATTRIBUTES.PERFMON) !== 0n) ||
    row.source === "monitor";
  if (!present) return [0, 0, 0, 0];
  return native.map((value, r) => {
    const configurable = row.configurable[r] as number;
    const allowed = row.allowed[r] as number;
    let result = (value & ~(row.cleared[r] as number)) | (row.fixed1[r] as number);
    result = (result & ~configurable) | ((asked[r] as number) & configurable);
    return (result & ~(allowed & ~(asked[r] as number))) >>> 0;
  });
}

/** What depends on more than one row. */
function patch(values: number[][], inputs: CpuidInputs): void {
  const of = (leaf: number, subleaf: number | null): number[] => values[cpuidIndex(leaf, subleaf)] as number[];
  const { xfam, attributes, tscFrequency } = inputs;
  of(0, null)[0] = CPUID_MAX_BASIC;
  of(0x8000_0000, null).splice(0, 4, CPUID_MAX_EXTENDED, 0, 0, 0);
  for (const [bits, leaf, subleaf, register, mask] of CPUID_XFAM_BITS) {
    const value = of(leaf, subleaf);
    if ((xfam & bits) === 0) value[register] = ((value[register] as number) & ~mask) >>> 0;
  }
  const leaf7 = of(7, 0);
  if ((attributes & ATTRIBUTES.PKS) === 0n) leaf7[2] = ((leaf7[2] as number) & ~CPUID_BIT.L7_ECX_PKS) >>> 0;
  if (((of(1, null)[2] as number) & CPUID_BIT.L1_ECX_MONITOR) === 0) of(5, null).fill(0);
  of(6, null)[0] = CPUID_BIT.L6_EAX_ARAT;
  const xcr0 = of(0xd, 0);
  xcr0[0] = ((xcr0[0] as number) & xfam) >>> 0;
  xcr0[2] = xsaveSize(values, xfam);
  const xss = of(0xd, 1);
  xss[2] = ((xss[2] as number) & xfam) >>> 0;
  of(0x15, null).splice(0, 4, 1, tscFrequency, TD_CRYSTAL_HZ, 0);
  of(0x21, 0).splice(0, 4, ...CPUID_TDX);
  const linearBits = (leaf7[2] as number) & CPUID_BIT.L7_ECX_LA57 ? 57 : 48;
  const limits = of(0x8000_0008, null);
  limits[0] = ((limits[0] as number) & 0xff) | (linearBits << 8);
}

/** Bytes of the XSAVE header and legacy area, which hold x87 and SSE. */
const XSAVE_LEGACY = 576;

/** Size of a standard-format XSAVE area for these components. */
function xsaveSize(values: readonly number[][], components: number): number {
  let size = XSAVE_LEGACY;
  for (let bit = 2; bit <= 18; bit++) {
    const value = values[cpuidIndex(0xd, bit)];
    // ECX bit 0: a supervisor component, not part of the standard format.
    if (components & (1 << bit) && value && ((value[2] as number) & 1) === 0) {
      size = Math.max(size, (value[0] as number) + (value[1] as number));
    }
  }
  return size;
}

/** Size of the XSAVE area (compacted: of the XSAVES area) for the components that the TD has enabled now. */
export function currentXsaveSize(td: Td, components: number, compacted: boolean): number {
  let size = XSAVE_LEGACY;
  for (let bit = 2; bit <= 18; bit++) {
    if ((components & (1 << bit)) === 0) continue;
    const [bytes, offset, flags] = [0, 1, 2].map((r) => cpuidValue(td, 0xd, bit, r)) as [number, number, number];
    // ECX bit 1: the component is aligned to 64 bytes in the compacted format.
    if (compacted) size = (flags & 2 ? Math.ceil(size / 64) * 64 : size) + bytes;
    else if ((flags & 1) === 0) size = Math.max(size, bytes + offset);
  }
  return size;
}
