import { ADVERTISED } from "./advertised.js";
import { ARENA, CASE, FX } from "./arena.js";
import { identifyInstruction } from "./disassembly.js";
import type { Generated } from "./generate.js";
import type { NativeCpu } from "./native.js";
import { isTried } from "./rows.js";

/** Why a case is not run. */
export interface Exclusion {
  readonly name: string;
  readonly reason: string;
  /** Only on a CPU of another maker than Intel: that maker's documented or observed difference. */
  readonly notIntel?: boolean;
  readonly applies: (one: Generated, record: Uint8Array, cpu: NativeCpu) => boolean;
}

/** By iced's mnemonic: instructions of any bytes that would reach the kernel or the oracle's own state. */
const REACHES_OUT =
  /^(syscall|sysenter|int|iret[dq]?|hlt|retf|rdtsc|rdtscp|rdrand|rdseed|cpuid|xgetbv|in|out|ins.|outs.|les|lds|lss|lfs|lgs|wr[fg]sbase|xrstors?|xrstor64|fxrstor(64)?|popf[dq]?)$/;

const mnemonicIs =
  (pattern: RegExp) =>
  ({ decoded }: Generated): boolean =>
    typeof decoded !== "string" && pattern.test(decoded.mnemonic);

const valueAt = (record: Uint8Array, offset: number): bigint =>
  new DataView(record.buffer, record.byteOffset).getBigUint64(offset, true);

/** Cases that are not run, in the order of asking. */
export const EXCLUSIONS: readonly Exclusion[] = [
  {
    name: "system",
    reason:
      "shows the kernel's values, changes the oracle's segments, or is another each time; unit tests in cpu/system",
    applies: ({ decoded }) => typeof decoded !== "string" && !isTried(decoded.row),
  },
  {
    name: "not-advertised",
    reason: "the real CPU may have a feature that our CPUID does not advertise",
    applies: (one, record) => {
      if (one.row && !one.unusual && one.row.source.system !== "ud") return false;
      const { mnemonic, features } = iced(one, record);
      return mnemonic !== "invalid" && features.some((feature) => !ADVERTISED.has(feature));
    },
  },
  {
    name: "not-on-this-cpu",
    reason: "the real CPU lacks a feature of ours",
    applies: (one, record, cpu) => missingFeature(one, record, cpu) !== undefined,
  },
  {
    name: "reaches-out",
    reason: "would call the kernel, change the oracle's own segments or give another value each time",
    applies: (one, record) => (!one.row || one.unusual) && REACHES_OUT.test(iced(one, record).mnemonic),
  },
  {
    name: "any-bytes-vex",
    reason: "VEX, EVEX and XOP exist on the real CPU and not here",
    applies: (one, record) => one.row === null && /^((66|f2|f3|f0|67|2e|64|4.) )*(c4|c5|62|8f) /.test(hexOf(record)),
  },
  {
    name: "near-branch-66",
    reason: "with a 66 prefix in 64-bit mode AMD truncates the target to 16 bits, Intel ignores the prefix",
    notIntel: true,
    applies: ({ decoded, mode }) =>
      typeof decoded !== "string" &&
      mode === 64 &&
      decoded.operandSizePrefix &&
      /^(j|call|ret|loop)/.test(decoded.mnemonic),
  },
  {
    name: "sha-alignment",
    reason: "Intel wants the 16-byte memory operand of the SHA instructions aligned, AMD does not",
    notIntel: true,
    applies: (one) =>
      mnemonicIs(/^sha/)(one) &&
      typeof one.decoded !== "string" &&
      one.decoded.memory !== null &&
      (one.row === null || (one.target & 15n) !== 0n),
  },
  {
    name: "loop-rep",
    reason: "AMD takes a repeat prefix of LOOPE and LOOPNE for a condition, Intel ignores it",
    notIntel: true,
    applies: (one) => mnemonicIs(/^loop/)(one) && typeof one.decoded !== "string" && one.decoded.repeat !== 0,
  },
  {
    name: "prefetch-register",
    reason: "0F 0D with a register is a NOP on Intel and #UD on AMD",
    notIntel: true,
    applies: (one) => mnemonicIs(/^prefetchw$/)(one) && typeof one.decoded !== "string" && one.decoded.memory === null,
  },
  {
    name: "lock-order",
    reason: "AMD takes LOCK before a move of CR0 for CR8, and looks at the address of SLDT and its group before LOCK",
    notIntel: true,
    applies: (one, record) =>
      (one.row === null || one.unusual) && /^([0-9a-f]{2} )*f0 .*0f (00|2[02])/.test(hexOf(record)),
  },
  {
    name: "ud-modrm",
    reason: "AMD raises #UD of UD0 and UD1 before it reads what follows the opcode",
    notIntel: true,
    applies: (one, record) =>
      mnemonicIs(/^ud[01]$/)(one) &&
      new DataView(record.buffer, record.byteOffset).getUint16(CASE.CODE_OFFSET, true) > ARENA.CODE_SIZE - 16,
  },
  {
    name: "mxcsr-mm",
    reason: "MXCSR bit 17 (misaligned SSE mode) exists on AMD",
    notIntel: true,
    applies: (one, record) =>
      mnemonicIs(/^ldmxcsr$/)(one) &&
      valueAt(record, CASE.PATCH) !== 0n &&
      (Number(valueAt(record, CASE.PATCH) & 0xffff_ffffn) & 0x2_0000) !== 0,
  },
];

/** Where CPUID tells of a feature, by iced's name: leaf.subleaf.register and bit. */
const FEATURE_BITS: Readonly<Record<string, readonly [word: string, bit: number]>> = {
  SSE3: ["1.0.c", 0],
  PCLMULQDQ: ["1.0.c", 1],
  SSSE3: ["1.0.c", 9],
  CMPXCHG16B: ["1.0.c", 13],
  SSE4_1: ["1.0.c", 19],
  SSE4_2: ["1.0.c", 20],
  MOVBE: ["1.0.c", 22],
  POPCNT: ["1.0.c", 23],
  AES: ["1.0.c", 25],
  SHA: ["7.0.b", 29],
  CLFLUSHOPT: ["7.0.b", 23],
  CLWB: ["7.0.b", 24],
  MOVDIRI: ["7.0.c", 27],
  LZCNT: ["80000001.0.c", 5],
};
const rowFeatures = new Map<object, readonly string[]>();

/** A feature that the case needs and the real CPU lacks. */
function missingFeature(one: Generated, record: Uint8Array, cpu: NativeCpu): string | undefined {
  const known = one.row && !one.unusual ? rowFeatures.get(one.row) : undefined;
  const features = known ?? iced(one, record).features;
  if (one.row && !one.unusual) rowFeatures.set(one.row, features);
  return features.find((feature) => {
    const place = FEATURE_BITS[feature];
    return place !== undefined && (((cpu.words.get(place[0]) ?? 0) >>> place[1]) & 1) === 0;
  });
}

let lastIced: { key: string; value: ReturnType<typeof identifyInstruction> } | undefined;
function iced(one: Generated, record: Uint8Array): ReturnType<typeof identifyInstruction> {
  const key = `${one.seed} ${one.mode} ${one.index}`;
  if (lastIced?.key !== key) {
    const length = record[CASE.CODE_LENGTH] as number;
    lastIced = { key, value: identifyInstruction(record.subarray(CASE.CODE, CASE.CODE + length), one.mode) };
  }
  return lastIced.value;
}

function hexOf(record: Uint8Array): string {
  return [...record.subarray(CASE.CODE, CASE.CODE + (record[CASE.CODE_LENGTH] as number))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join(" ");
}

export function exclusionOf(one: Generated, record: Uint8Array, cpu: NativeCpu): Exclusion | undefined {
  const intel = cpu.vendor === "GenuineIntel";
  return EXCLUSIONS.find((exclusion) => !(intel && exclusion.notIntel) && exclusion.applies(one, record, cpu));
}

const CF = 0x1n;
const PF = 0x4n;
const AF = 0x10n;
const ZF = 0x40n;
const SF = 0x80n;
const OF = 0x800n;

/** What of a result is not compared. */
export interface Ignored {
  flags: bigint;
  /** General registers by number. */
  readonly registers: Set<number>;
  /** Memory and destination as a whole. */
  result: boolean;
  /** Single-precision elements of XMM registers may differ by the error that the architecture allows an estimate. */
  approximate: boolean;
  /** TOP and tags of the x87 when the instruction faults. */
  x87OfFault: boolean;
  /** Flags of MXCSR when the instruction faults. */
  mxcsrOfFault: boolean;
  /** x87 registers may differ by one unit in the last place. */
  lastPlace: boolean;
  /** Which fault it is and where, if both sides have one. */
  whichFault: boolean;
  /** All x87 state. */
  x87: boolean;
  /** Bits of the x87 status word. */
  status: number;
  /** The whole case if it ends with a fault on either side. */
  fault: boolean;
}

/** A part of a result that the architecture leaves undefined, or leaves to the implementation. */
export interface Mask {
  readonly mnemonic: RegExp;
  readonly reason: string;
  readonly notIntel?: boolean;
  readonly apply: (ignored: Ignored, one: Generated, record: Uint8Array) => void;
}

const C1 = 0x200;
/** PE, and UE with it, and ES and B, which follow from them. */
const INEXACT = 0x80b0;
/** Biased exponent of 0.25. */
const QUARTER = 0x3ffd;
const CONDITION_CODES = 0x4700;
const X87_COMPARE = /^f(com|ucom|icom|tst)/;

/** True if the invalid-operation or the denormal exception of the x87 is not masked. */
const operandUnmasked = (record: Uint8Array): boolean => ((record[CASE.FX + FX.FCW] as number) & 3) !== 3;

/** True if ST(i) is in use and holds a normal number. */
function isPlain(record: Uint8Array, register: number): boolean {
  const view = new DataView(record.buffer, record.byteOffset);
  const top = (view.getUint16(CASE.FX + FX.FSW, true) >> 11) & 7;
  const inUse = ((record[CASE.FX + FX.FTW] as number) >> ((top + register) & 7)) & 1;
  const at = CASE.FX + FX.ST + register * 16;
  const exponent = view.getUint16(at + 8, true) & 0x7fff;
  return inUse === 1 && exponent !== 0 && exponent !== 0x7fff && view.getUint8(at + 7) >= 0x80;
}

const RCX_LOW = CASE.GPR + 8;

/** The count of a shift, masked as the processor masks it. */
function shiftCount(one: Generated, record: Uint8Array): number {
  const { decoded } = one;
  if (typeof decoded === "string") return 0;
  const last = decoded.row.operands.at(-1);
  const count =
    last?.fixed === "1" ? 1 : last?.fixed === "CL" ? (record[RCX_LOW] as number) : Number(decoded.immediate & 0xffn);
  return count & (decoded.variantSize === 8 ? 63 : 31);
}
const bitsOf = ({ decoded }: Generated): number => (typeof decoded === "string" ? 0 : decoded.variantSize * 8);

const flags =
  (undefinedOnes: bigint): Mask["apply"] =>
  (ignored) => {
    ignored.flags |= undefinedOnes;
  };

export const MASKS: readonly Mask[] = [
  { mnemonic: /^(and|or|xor|test)$/, reason: "AF is undefined", apply: flags(AF) },
  { mnemonic: /^(mul|imul)$/, reason: "SF, ZF, AF and PF are undefined", apply: flags(SF | ZF | AF | PF) },
  { mnemonic: /^(div|idiv)$/, reason: "all arithmetic flags are undefined", apply: flags(CF | PF | AF | ZF | SF | OF) },
  { mnemonic: /^(bt|bts|btr|btc)$/, reason: "OF, SF, AF and PF are undefined", apply: flags(OF | SF | AF | PF) },
  { mnemonic: /^(bsf|bsr)$/, reason: "CF, OF, SF, AF and PF are undefined", apply: flags(CF | OF | SF | AF | PF) },
  { mnemonic: /^lzcnt$/, reason: "OF, SF, PF and AF are undefined", apply: flags(OF | SF | PF | AF) },
  { mnemonic: /^(aaa|aas)$/, reason: "OF, SF, ZF and PF are undefined", apply: flags(OF | SF | ZF | PF) },
  { mnemonic: /^(daa|das)$/, reason: "OF is undefined", apply: flags(OF) },
  { mnemonic: /^(aam|aad)$/, reason: "OF, AF and CF are undefined", apply: flags(OF | AF | CF) },
  {
    mnemonic: /^(shl|sal|shr|sar)$/,
    reason: "AF is undefined, OF for a count above 1, CF for a count of the size or more (SHL, SHR)",
    apply: (ignored, one, record) => {
      const count = shiftCount(one, record);
      if (count !== 0) ignored.flags |= AF;
      if (count > 1) ignored.flags |= OF;
      if (count >= bitsOf(one)) ignored.flags |= CF;
    },
  },
  {
    mnemonic: /^(rol|ror|rcl|rcr)$/,
    reason: "OF is undefined for a count above 1",
    apply: (ignored, one, record) => {
      if (shiftCount(one, record) > 1) ignored.flags |= OF;
    },
  },
  {
    mnemonic: /^(shld|shrd)$/,
    reason: "AF is undefined, OF for a count above 1, everything for a count above 16 bits",
    apply: (ignored, one, record) => {
      const count = shiftCount(one, record);
      if (count !== 0) ignored.flags |= AF;
      if (count > 1) ignored.flags |= OF;
      if (count > bitsOf(one)) {
        ignored.flags |= CF | PF | AF | ZF | SF | OF;
        ignored.result = true;
        if (typeof one.decoded !== "string" && !one.decoded.memory) ignored.registers.add(one.decoded.rm);
      }
    },
  },
  {
    mnemonic: /^(rcp|rsqrt)/,
    reason: "an estimate with a relative error of at most 1.5 * 2^-12",
    apply: (ignored) => {
      ignored.approximate = true;
    },
  },
  {
    mnemonic: /^dpp[sd]$/,
    reason: "which flags the steps behind an unmasked exception still set is the implementation's",
    apply: (ignored) => {
      ignored.mxcsrOfFault = true;
    },
  },
  {
    mnemonic: /^f(2xm1|yl2x|yl2xp1|ptan|patan|sin|cos|sincos)$/,
    reason:
      "within one unit in the last place; C1 says how it was rounded, PE, and UE of a denormal, may be set for an exact result",
    apply: (ignored) => {
      ignored.lastPlace = true;
      ignored.status |= C1 | INEXACT;
    },
  },
  {
    mnemonic: /^fyl2xp1$/,
    reason: "the result is undefined for an operand outside 1 - sqrt(2)/2 on both sides of zero",
    apply: (ignored, _, record) => {
      const exponent = new DataView(record.buffer, record.byteOffset).getUint16(CASE.FX + FX.ST + 8, true) & 0x7fff;
      if (exponent >= QUARTER) ignored.x87 = true;
    },
  },
  {
    mnemonic: /^fprem1?$/,
    reason: "which condition codes a remainder leaves that raises an exception",
    notIntel: true,
    apply: (ignored, _, record) => {
      if (!isPlain(record, 0) || !isPlain(record, 1)) ignored.status |= CONDITION_CODES;
    },
  },
  {
    mnemonic: /^f(ldenv|nstenv|nsave|rstor)$/,
    reason: "in which order the words of the image are accessed is the implementation's",
    apply: (ignored) => {
      ignored.whichFault = true;
    },
  },
  {
    mnemonic: /^maskmov/,
    reason:
      "which byte's address a fault reports, and whether one without a mask bit can fault, is the implementation's",
    apply: (ignored) => {
      ignored.fault = true;
    },
  },
  {
    mnemonic: /^call$/,
    reason: "AMD stores the return address before it looks at the target, so another fault may come first",
    notIntel: true,
    apply: (ignored, _, record) => {
      const stack = valueAt(record, CASE.GPR + 4 * 8);
      if (stack < ARENA.DATA + 8 || stack > ARENA.DATA + ARENA.DATA_SIZE) ignored.fault = true;
    },
  },
  {
    mnemonic: /^fcmov/,
    reason: "C0, C2 and C3 are undefined, and C1 without a stack fault",
    apply: (ignored) => {
      ignored.status |= CONDITION_CODES;
    },
  },
  {
    mnemonic: /^f(u?comip?|ld)$/,
    reason: "AMD leaves C1 where Intel clears it, and looks for an empty source before a full register file",
    notIntel: true,
    apply: (ignored) => {
      ignored.status |= C1;
    },
  },
  {
    mnemonic: X87_COMPARE,
    reason:
      "with the invalid or the denormal exception unmasked AMD still compares, Intel leaves flags and condition codes alone",
    notIntel: true,
    apply: (ignored, _, record) => {
      if (!operandUnmasked(record)) return;
      ignored.status |= CONDITION_CODES;
      ignored.flags |= CF | PF | AF | ZF | SF | OF;
    },
  },
  {
    mnemonic: /^cvt(.*2pi|pi2.*)$/,
    reason: "on AMD an MMX instruction that faults has made the MMX registers valid before",
    notIntel: true,
    apply: (ignored) => {
      ignored.x87OfFault = true;
    },
  },
  {
    mnemonic: /^bswap$/,
    reason: "the result for a 16-bit operand is undefined",
    apply: (ignored, { decoded }) => {
      if (typeof decoded !== "string" && decoded.operandSizePrefix)
        ignored.registers.add((decoded.opcode & 7) | ((decoded.rex & 1) << 3));
    },
  },
];

export function ignoredOf(one: Generated, record: Uint8Array, cpu: NativeCpu): Ignored {
  const ignored: Ignored = {
    flags: 0n,
    registers: new Set(),
    result: false,
    approximate: false,
    x87OfFault: false,
    mxcsrOfFault: false,
    lastPlace: false,
    whichFault: false,
    x87: false,
    status: 0,
    fault: false,
  };
  const { decoded } = one;
  if (typeof decoded === "string") return ignored;
  for (const mask of MASKS) {
    if (mask.notIntel && cpu.vendor === "GenuineIntel") continue;
    if (mask.mnemonic.test(decoded.mnemonic)) mask.apply(ignored, one, record);
  }
  return ignored;
}
