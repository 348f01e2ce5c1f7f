import { type I64, i32, load, type SimdBinary, type SimdUnary, store, type V128 } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { Meaning } from "./meaning.js";
import { multiplyEven } from "./packed.js";
import type { IsaRow } from "./row.js";
import { indexPlus } from "./sse-integer.js";
import { moveVector } from "./sse-move.js";
import { elements, immediateByte, lanes, sse, type VectorCompute, ZERO } from "./vector-form.js";

const op =
  (name: SimdBinary): VectorCompute =>
  (a, b) =>
    a.op(name, b);
const extend =
  (name: SimdUnary): VectorCompute =>
  (_, b) =>
    b.unary(name);
const extendTwice =
  (first: SimdUnary, second: SimdUnary): VectorCompute =>
  (_, b) =>
    b.unary(first).unary(second);
const extendThrice =
  (first: SimdUnary, second: SimdUnary, third: SimdUnary): VectorCompute =>
  (_, b) =>
    b.unary(first).unary(second).unary(third);

/** Two-operand instructions of SSE4.1 and SSE4.2 that are one operation. */
const SIMPLE: readonly (readonly [mnemonic: string, byte: string, compute: VectorCompute])[] = [
  ["pmuldq", "28", multiplyEven("S")],
  ["pcmpeqq", "29", op("i64x2Eq")],
  ["packusdw", "2B", op("i16x8NarrowU")],
  ["pcmpgtq", "37", op("i64x2GtS")],
  ["pminsb", "38", op("i8x16MinS")],
  ["pminsd", "39", op("i32x4MinS")],
  ["pminuw", "3A", op("i16x8MinU")],
  ["pminud", "3B", op("i32x4MinU")],
  ["pmaxsb", "3C", op("i8x16MaxS")],
  ["pmaxsd", "3D", op("i32x4MaxS")],
  ["pmaxuw", "3E", op("i16x8MaxU")],
  ["pmaxud", "3F", op("i32x4MaxU")],
  ["pmulld", "40", op("i32x4Mul")],
  ["phminposuw", "41", leastWord],
];

/** PMOVSX, PMOVZX: opcode byte less 20 (signed) or 30 (unsigned), and the size of the memory operand. */
const EXTENSIONS: readonly (readonly [
  kind: string,
  byte: number,
  size: string,
  compute: (sign: "S" | "U") => VectorCompute,
])[] = [
  ["bw", 0, "q", (s) => extend(`i16x8ExtendLowI8x16${s}`)],
  ["bd", 1, "d", (s) => extendTwice(`i16x8ExtendLowI8x16${s}`, `i32x4ExtendLowI16x8${s}`)],
  ["bq", 2, "w", (s) => extendThrice(`i16x8ExtendLowI8x16${s}`, `i32x4ExtendLowI16x8${s}`, `i64x2ExtendLowI32x4${s}`)],
  ["wd", 3, "q", (s) => extend(`i32x4ExtendLowI16x8${s}`)],
  ["wq", 4, "d", (s) => extendTwice(`i32x4ExtendLowI16x8${s}`, `i64x2ExtendLowI32x4${s}`)],
  ["dq", 5, "q", (s) => extend(`i64x2ExtendLowI32x4${s}`)],
];

/** PHMINPOSUW: value and index in one dword, so that the least dword is the least word that comes first. */
function leastWord(_: V128, b: V128, m: Meaning): V128 {
  const keyed = (half: "Low" | "High", first: number): V128 =>
    b
      .unary(`i32x4Extend${half}I16x8U`)
      .shift("i32x4Shl", i32(16))
      .op(
        "or",
        lanes(
          [0, 1, 2, 3].map((n) => n + first),
          32,
        ),
      );
  const four = m.f.tmp(keyed("Low", 0).op("i32x4MinU", keyed("High", 4)));
  const two = m.f.tmp(four.op("i32x4MinU", four.shuffle(four, elements(4, [2, 3, 2, 3]))));
  const one = two.op("i32x4MinU", two.shuffle(two, elements(4, [1, 1, 1, 1])));
  return ZERO.withLane32(0, one.lane32(0).rotl(16));
}

/** Blends: the source where the mask is set. */
function blendBySign(lane: "i8x16" | "i32x4" | "i64x2", bits: number): VectorCompute {
  return (a, b) => b.bitselect(a, load.v128(i32(REG.XMM)).shift(`${lane}ShrS`, i32(bits - 1)));
}

function blendByImmediate(lane: "i16x8" | "i32x4" | "i64x2", bits: 16 | 32 | 64): VectorCompute {
  const select = lanes(
    Array.from({ length: 128 / bits }, (_, n) => 1 << n),
    bits,
  );
  return (a, b, m) => {
    const choice = immediateByte(m);
    const all = bits === 16 ? choice.splat16x8() : bits === 32 ? choice.splat32x4() : choice.toI64U().splat64x2();
    return b.bitselect(a, all.op("and", select).op(`${lane}Eq`, select));
  };
}

/** PTEST: ZF if the operands have no bit in common, CF if the source has none outside the destination. */
function test(m: Meaning): void {
  m.requireSse();
  const b = m.readVector(1);
  const a = m.readVector(0);
  const none = (value: V128): I64 => value.test("anyTrue").eqz().toI64U();
  m.setFlagBits(
    m.f.tmp(
      none(a.op("and", b))
        .shl(6n)
        .or(none(b.op("andnot", a))),
    ),
  );
}

/** MPSADBW: eight sums of four absolute differences, of a sliding window over the destination and one dword of the source. */
const slidingDifferences: VectorCompute = (a, b, m) => {
  const control = immediateByte(m);
  const window = m.f.tmp(a.op("swizzle", indexPlus(control.and(4))));
  const block = m.f.tmp(control.and(3).shl(2));
  let sum: V128 | undefined;
  for (let n = 0; n < 4; n++) {
    const moved =
      n === 0
        ? window
        : window.shuffle(
            window,
            Array.from({ length: 16 }, (_, k) => Math.min(k + n, 15)),
          );
    const byte = b.op("swizzle", block.add(n).splat8x16()).unary("i16x8ExtendLowI8x16U");
    const difference = moved.unary("i16x8ExtendLowI8x16U").op("i16x8Sub", byte).unary("i16x8Abs");
    sum = sum ? sum.op("i16x8Add", difference) : difference;
  }
  return sum as V128;
};

const PLACES = { 1: 15, 2: 7, 4: 3, 8: 1 } as const;
type ElementBytes = keyof typeof PLACES;
const LOAD = { 1: load.i64_8U, 2: load.i64_16U, 4: load.i64_32U, 8: load.i64 } as const;
const STORE = { 1: store.i64_8, 2: store.i64_16, 4: store.i64_32, 8: store.i64 } as const;

/** Offset in the register of the element that the immediate names. */
const place = (m: Meaning, bytes: ElementBytes): ReturnType<typeof immediateByte> =>
  m.f.tmp(immediateByte(m).and(PLACES[bytes]).mul(bytes));

/** PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS. */
function extract(size: 1 | 2 | 4 | "y"): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const bytes = size === "y" ? (m.size as 4 | 8) : size;
    m.write(0, LOAD[bytes](m.vectorAddress(1).add(place(m, bytes))));
  };
}

/** PINSRB, PINSRD, PINSRQ. */
function insert(size: 1 | "y"): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const bytes = size === "y" ? (m.size as 4 | 8) : size;
    const value = m.readUnsigned(1);
    m.f.emit(STORE[bytes](m.vectorAddress(0).add(place(m, bytes)), value));
  };
}

/** INSERTPS: immediate bits 7:6 choose the source element (of a register), 5:4 its place, 3:0 elements to clear. */
const insertSingle: VectorCompute = (a, b, m) => {
  const control = immediateByte(m);
  const from = m.memory ? i32(0) : control.shrU(6);
  const index = from.mul(0x04040404).add(0x03020100).splat32x4();
  const target = control
    .shrU(4)
    .and(3)
    .splat32x4()
    .op("i32x4Eq", lanes([0, 1, 2, 3], 32));
  const bits = lanes([1, 2, 4, 8], 32);
  const cleared = control.splat32x4().op("and", bits).op("i32x4Eq", bits);
  return b.op("swizzle", index).bitselect(a, target).op("andnot", cleared);
};

const aligned = true;

/** SSE4.1 and SSE4.2 without the string comparisons. */
export const sse4Rows: readonly IsaRow[] = [
  ...SIMPLE.map(
    ([mnemonic, byte, compute]): IsaRow => ({
      mnemonic,
      opcode: `66 0F 38 ${byte}`,
      operands: "Vdq,Wdq",
      meaning: sse(compute),
      aligned,
    }),
  ),
  ...EXTENSIONS.flatMap(([kind, byte, size, compute]): IsaRow[] => [
    { mnemonic: `pmovsx${kind}`, opcode: `66 0F 38 2${byte}`, operands: `Vdq,W${size}`, meaning: sse(compute("S")) },
    { mnemonic: `pmovzx${kind}`, opcode: `66 0F 38 3${byte}`, operands: `Vdq,W${size}`, meaning: sse(compute("U")) },
  ]),
  { mnemonic: "pblendvb", opcode: "66 0F 38 10", operands: "Vdq,Wdq", meaning: sse(blendBySign("i8x16", 8)), aligned },
  { mnemonic: "blendvps", opcode: "66 0F 38 14", operands: "Vdq,Wdq", meaning: sse(blendBySign("i32x4", 32)), aligned },
  { mnemonic: "blendvpd", opcode: "66 0F 38 15", operands: "Vdq,Wdq", meaning: sse(blendBySign("i64x2", 64)), aligned },
  { mnemonic: "ptest", opcode: "66 0F 38 17", operands: "Vdq,Wdq", meaning: test, aligned },
  { mnemonic: "movntdqa", opcode: "66 0F 38 2A", operands: "Vdq,Mdq", meaning: moveVector, aligned },
  {
    mnemonic: "blendps",
    opcode: "66 0F 3A 0C",
    operands: "Vdq,Wdq,Ib",
    meaning: sse(blendByImmediate("i32x4", 32)),
    aligned,
  },
  {
    mnemonic: "blendpd",
    opcode: "66 0F 3A 0D",
    operands: "Vdq,Wdq,Ib",
    meaning: sse(blendByImmediate("i64x2", 64)),
    aligned,
  },
  {
    mnemonic: "pblendw",
    opcode: "66 0F 3A 0E",
    operands: "Vdq,Wdq,Ib",
    meaning: sse(blendByImmediate("i16x8", 16)),
    aligned,
  },
  { mnemonic: "pextrb", opcode: "66 0F 3A 14", operands: "Mb,Vdq,Ib", meaning: extract(1) },
  { mnemonic: "pextrb", opcode: "66 0F 3A 14", operands: "Rd,Vdq,Ib", meaning: extract(1) },
  { mnemonic: "pextrw", opcode: "66 0F 3A 15", operands: "Mw,Vdq,Ib", meaning: extract(2) },
  { mnemonic: "pextrw", opcode: "66 0F 3A 15", operands: "Rd,Vdq,Ib", meaning: extract(2) },
  { mnemonic: "pextrd", opcode: "66 0F 3A 16", operands: "Ey,Vdq,Ib", meaning: extract("y") },
  { mnemonic: "extractps", opcode: "66 0F 3A 17", operands: "Ed,Vdq,Ib", meaning: extract(4) },
  { mnemonic: "pinsrb", opcode: "66 0F 3A 20", operands: "Vdq,Mb,Ib", meaning: insert(1) },
  { mnemonic: "pinsrb", opcode: "66 0F 3A 20", operands: "Vdq,Rd,Ib", meaning: insert(1) },
  { mnemonic: "insertps", opcode: "66 0F 3A 21", operands: "Vdq,Wd,Ib", meaning: sse(insertSingle) },
  { mnemonic: "pinsrd", opcode: "66 0F 3A 22", operands: "Vdq,Ey,Ib", meaning: insert("y") },
  { mnemonic: "mpsadbw", opcode: "66 0F 3A 42", operands: "Vdq,Wdq,Ib", meaning: sse(slidingDifferences), aligned },
];
