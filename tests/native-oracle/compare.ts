import { CASE, FX, RESULT } from "./arena.js";
import type { Ending } from "./emulated.js";
import type { Ignored } from "./exclusions.js";
import type { Generated } from "./generate.js";

const SIGTRAP = 5;
const TRAP_DB = 1;
const TRAP_BP = 3;
const TRAP_PF = 14;
const MXCSR_FLAGS = 0x3f;
const HAS_ERROR_CODE = new Set([10, 11, 12, 13, 14, 17]);
/** CF PF AF ZF SF TF IF DF OF IOPL NT: RF is set in the frame of a fault, and nothing else is the case's. */
const FLAGS_COMPARED = 0x7fd5n;
/** End of what a program may map under Linux. */
const LINUX_TOP = 0x7fff_ffff_f000n;
const GPR_NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** How the case ended on the real CPU. */
export function nativeEnding(result: DataView, step: number): Ending & { readonly rip: bigint } {
  const trap = result.getUint32(RESULT.TRAP, true);
  const signal = result.getUint32(RESULT.SIGNAL, true);
  const rip = result.getBigUint64(RESULT.RIP, true);
  const done = { vector: null, errorCode: 0, address: 0n };
  if (step && signal === SIGTRAP && trap === TRAP_DB) return { ...done, rip };
  if (!step && signal === SIGTRAP && trap === TRAP_BP) return { ...done, rip: rip - 1n };
  return {
    vector: trap,
    errorCode: HAS_ERROR_CODE.has(trap) ? Number(result.getBigUint64(RESULT.ERROR, true)) : 0,
    address: trap === TRAP_PF ? result.getBigUint64(RESULT.CR2, true) : 0n,
    rip,
  };
}

function endingText(ending: Ending): string {
  if (ending.vector === null) return "completed";
  return `#${ending.vector} code ${hex(ending.errorCode)}${ending.vector === TRAP_PF ? ` at ${hex(ending.address)}` : ""}`;
}

/** Everything in which our machine differs from the real CPU, a line each. */
export function differences(
  one: Generated,
  record: Uint8Array,
  native: Uint8Array,
  ours: Uint8Array,
  ending: Ending,
  ignored: Ignored,
): string[] {
  const found: string[] = [];
  const a = new DataView(native.buffer, native.byteOffset, RESULT.SIZE);
  const b = new DataView(ours.buffer, ours.byteOffset, RESULT.SIZE);
  const real = nativeEnding(a, record[CASE.STEP] as number);
  if (ignored.fault && (real.vector !== null || ending.vector !== null)) return found;
  if (ignored.whichFault && real.vector !== null && ending.vector !== null) return found;
  const differ = (what: string, expected: string, got: string): void => {
    found.push(`${what}: expected ${expected}, got ${got}`);
  };
  // For addresses above a program's own Linux reports the page as present, so as not to tell what is mapped there.
  const kernel = real.vector === TRAP_PF && real.address >= LINUX_TOP ? 1 : 0;
  if (
    real.vector !== ending.vector ||
    (real.errorCode | kernel) !== (ending.errorCode | kernel) ||
    real.address !== ending.address
  ) {
    differ("end", endingText(real), endingText(ending));
    return found;
  }
  const rip = b.getBigUint64(RESULT.RIP, true);
  if (real.rip !== rip) differ("rip", hex(real.rip), hex(rip));
  for (let n = 0; n < (one.mode === 64 ? 16 : 8); n++) {
    const expected = a.getBigUint64(RESULT.GPR + n * 8, true);
    const got = b.getBigUint64(RESULT.GPR + n * 8, true);
    if (expected !== got && !(ignored.registers.has(n) && real.vector === null))
      differ(GPR_NAMES[n] as string, hex(expected), hex(got));
  }
  const compared = real.vector === null ? FLAGS_COMPARED & ~ignored.flags : FLAGS_COMPARED;
  const flagsA = a.getBigUint64(RESULT.RFLAGS, true) & compared;
  const flagsB = b.getBigUint64(RESULT.RFLAGS, true) & compared;
  if (flagsA !== flagsB) differ("flags", flagNames(flagsA), flagNames(flagsB));
  if (!(ignored.result && real.vector === null)) memoryDifferences(a, b, native, ours, differ);
  if (!ignored.x87 && !(ignored.x87OfFault && real.vector !== null)) x87Differences(a, b, ignored, differ);
  sseDifferences(a, b, ignored, real.vector !== null, differ);
  return found;
}

function memoryDifferences(
  a: DataView,
  b: DataView,
  native: Uint8Array,
  ours: Uint8Array,
  differ: (what: string, expected: string, got: string) => void,
): void {
  for (const field of [RESULT.FIRST, RESULT.END, RESULT.HASH]) {
    if (a.getUint32(field, true) === b.getUint32(field, true)) continue;
    differ("memory", changedText(a, native), changedText(b, ours));
    return;
  }
}

function changedText(view: DataView, result: Uint8Array): string {
  const first = view.getUint32(RESULT.FIRST, true);
  const end = view.getUint32(RESULT.END, true);
  const shown = result.subarray(RESULT.CHANGED, RESULT.CHANGED + Math.min(end - first, 40));
  return `${hex(first)}..${hex(end)} [${Buffer.from(shown).toString("hex")}]`;
}

type Differ = (what: string, expected: string, got: string) => void;

function x87Differences(a: DataView, b: DataView, ignored: Ignored, differ: Differ): void {
  const words = [
    ["fcw", FX.FCW, ~0],
    ["fsw", FX.FSW, ~ignored.status],
    ["ftw", FX.FTW, ~0],
  ] as const;
  for (const [name, offset, compared] of words) {
    const expected = a.getUint16(RESULT.FX + offset, true) & compared;
    const got = b.getUint16(RESULT.FX + offset, true) & compared;
    if (expected !== got) differ(name, hex(expected), hex(got));
  }
  for (let n = 0; n < 8; n++) {
    const at = RESULT.FX + FX.ST + n * 16;
    const expected = extendedAt(a, at);
    const got = extendedAt(b, at);
    if (expected === got || (ignored.lastPlace && areNeighbours(expected, got))) continue;
    differ(`st${n}`, extendedText(expected), extendedText(got));
  }
}

/** Two x87 numbers with the same sign and nothing between them. */
function areNeighbours(a: bigint, b: bigint): boolean {
  // Without the explicit leading bit, exponent and significand count through all numbers in order.
  const ordinal = (value: bigint): bigint => ((value >> 64n) << 63n) | (value & ((1n << 63n) - 1n));
  const distance = ordinal(a) - ordinal(b);
  return distance >= -1n && distance <= 1n;
}

/** An x87 register as one number: sign and exponent above the significand. */
function extendedAt(view: DataView, at: number): bigint {
  return (BigInt(view.getUint16(at + 8, true)) << 64n) | view.getBigUint64(at, true);
}

function extendedText(value: bigint): string {
  const digits = value.toString(16).padStart(20, "0");
  return `${digits.slice(0, 4)}.${digits.slice(4)}`;
}

function sseDifferences(a: DataView, b: DataView, ignored: Ignored, faulted: boolean, differ: Differ): void {
  const compared = ignored.mxcsrOfFault && faulted ? ~MXCSR_FLAGS : ~0;
  const mxcsrA = a.getUint32(RESULT.FX + FX.MXCSR, true) & compared;
  const mxcsrB = b.getUint32(RESULT.FX + FX.MXCSR, true) & compared;
  if (mxcsrA !== mxcsrB) differ("mxcsr", hex(mxcsrA), hex(mxcsrB));
  for (let n = 0; n < 16; n++) {
    const at = RESULT.FX + FX.XMM + n * 16;
    if (
      a.getBigUint64(at, true) === b.getBigUint64(at, true) &&
      a.getBigUint64(at + 8, true) === b.getBigUint64(at + 8, true)
    )
      continue;
    if (ignored.approximate && [0, 4, 8, 12].every((lane) => near(a, b, at + lane))) continue;
    differ(`xmm${n}`, xmmText(a, at), xmmText(b, at));
  }
}

/** Both are estimates of the same number: each may be off by 1.5 * 2^-12. */
function near(a: DataView, b: DataView, at: number): boolean {
  if (a.getUint32(at, true) === b.getUint32(at, true)) return true;
  const x = a.getFloat32(at, true);
  const y = b.getFloat32(at, true);
  return Math.abs(x - y) <= Math.abs(x) * 2 * 1.5 * 2 ** -12;
}

function xmmText(view: DataView, at: number): string {
  const half = (offset: number): string =>
    view
      .getBigUint64(at + offset, true)
      .toString(16)
      .padStart(16, "0");
  return `${half(8)}_${half(0)}`;
}

const FLAG_NAMES: readonly (readonly [string, bigint])[] = [
  ["CF", 1n],
  ["PF", 4n],
  ["AF", 16n],
  ["ZF", 64n],
  ["SF", 128n],
  ["TF", 256n],
  ["IF", 512n],
  ["DF", 1024n],
  ["OF", 2048n],
  ["NT", 0x4000n],
];

export function flagNames(flags: bigint): string {
  return (
    FLAG_NAMES.filter(([, bit]) => flags & bit)
      .map(([name]) => name)
      .join(" ") || "none"
  );
}
