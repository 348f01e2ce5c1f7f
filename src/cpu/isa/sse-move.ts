import { i32, load, store, type V128 } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";
import { elements, immediateByte, lanes, lowHalf, sse, type VectorCompute, ZERO } from "./vector-form.js";

/** Bits of MXCSR that may be set. */
const MXCSR_MASK = 0xffffn;
const VECTOR_GP = 13;

/** dst := src, all 16 bytes. */
export function moveVector(m: Meaning): void {
  m.requireSse();
  m.writeVector(0, m.readVector(1));
}

/** dst := src with zeros above the low 8 bytes (4 for `bytes` = 4). */
function moveLow(m: Meaning): void {
  m.requireSse();
  const value = m.readVector(1);
  m.writeVector(0, m.memory && m.bytes(0) === 8 ? value : lowHalf(value));
}

/** MOVSS and MOVSD: a load clears the rest of the register, a move between registers leaves it. */
function moveScalar(bytes: 4 | 8): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const value = m.readVector(1);
    if (m.memory) m.writeVector(0, value);
    else m.writeVector(0, mergeLow(m.readVector(0), value, bytes));
  };
}

function mergeLow(a: V128, b: V128, bytes: 4 | 8): V128 {
  return bytes === 4 ? a.withLane32(0, b.lane32(0)) : a.withLane64(0, b.lane64(0));
}

/** MOVHPS, MOVHPD to memory. */
function storeHigh(m: Meaning): void {
  m.requireSse();
  const value = m.readVector(1);
  m.writeVector(0, value.shuffle(value, elements(8, [1, 1])));
}

/** MOVD and MOVQ from a general register or memory. */
function fromGeneral(m: Meaning): void {
  m.requireSse();
  m.writeVector(0, ZERO.withLane64(0, m.readUnsigned(1)));
}

function toGeneral(m: Meaning): void {
  m.requireSse();
  m.write(0, m.readVector(1).lane64(0));
}

/** MOVMSKPS, MOVMSKPD, PMOVMSKB. */
function mask(test: "i8x16Bitmask" | "i32x4Bitmask" | "i64x2Bitmask"): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    m.write(0, m.readVector(1).test(test).toI64U());
  };
}

/** SHUFPS: two elements of the destination, then two of the source, two bits of the immediate for each. */
const shuffleSingle: VectorCompute = (a, b, m) => {
  const order = dwordOrder(m);
  return a.op("swizzle", order).shuffle(b.op("swizzle", order), elements(8, [0, 3]));
};

/** SHUFPD: one bit for each element. */
const shuffleDouble: VectorCompute = (a, b, m) => {
  const choice = immediateByte(m);
  const low = choice.and(1).select(a.lane64(1), a.lane64(0));
  const high = choice.and(2).select(b.lane64(1), b.lane64(0));
  return low.splat64x2().withLane64(1, high);
};

/** The byte shuffle that an immediate with two bits for each of four dwords stands for. */
export function dwordOrder(m: Meaning): V128 {
  // Each lane gets its two bits to the same place: up by multiplication, then down.
  const choice = immediateByte(m)
    .splat32x4()
    .op("i32x4Mul", lanes([64, 16, 4, 1], 32));
  const element = choice.shift("i32x4ShrU", i32(6)).op("and", lanes([3, 3, 3, 3], 32));
  const index = element.op(
    "i32x4Mul",
    lanes(
      [1, 1, 1, 1].map(() => 0x04040404),
      32,
    ),
  );
  return m.f.tmp(
    index.op(
      "i32x4Add",
      lanes(
        [1, 1, 1, 1].map(() => 0x03020100),
        32,
      ),
    ),
  );
}

function loadControl(m: Meaning): void {
  m.requireSse();
  const value = m.readUnsigned(0);
  m.raiseIf(value.and(~MXCSR_MASK).ne(0n), VECTOR_GP, 0);
  m.f.emit(store.i32(i32(REG.MXCSR), value.toI32()));
}

function storeControl(m: Meaning): void {
  m.requireSse();
  m.write(0, load.i64_32U(i32(REG.MXCSR)));
}

type Rest = Partial<Omit<IsaRow, "mnemonic" | "opcode" | "operands" | "meaning">>;
const row = (
  mnemonic: string,
  opcode: string,
  operands: string,
  meaning: (m: Meaning) => void,
  rest: Rest = {},
): IsaRow => ({
  mnemonic,
  opcode,
  operands,
  meaning,
  ...rest,
});
const aligned: Rest = { aligned: true };

const unpackLowSingle: VectorCompute = (a, b) => a.shuffle(b, elements(4, [0, 4, 1, 5]));
const unpackHighSingle: VectorCompute = (a, b) => a.shuffle(b, elements(4, [2, 6, 3, 7]));
const lowOfBoth: VectorCompute = (a, b) => a.shuffle(b, elements(8, [0, 2]));
const highOfBoth: VectorCompute = (a, b) => a.shuffle(b, elements(8, [1, 3]));
const and: VectorCompute = (a, b) => a.op("and", b);
const andNot: VectorCompute = (a, b) => b.op("andnot", a);
const or: VectorCompute = (a, b) => a.op("or", b);
const xor: VectorCompute = (a, b) => a.op("xor", b);

/** Moves, shuffles and logic of SSE, SSE2 and SSE3 that do not depend on what the elements mean. */
export const sseMoveRows: readonly IsaRow[] = [
  row("movups", "NP 0F 10", "Vdq,Wdq", moveVector),
  row("movups", "NP 0F 11", "Wdq,Vdq", moveVector),
  row("movupd", "66 0F 10", "Vdq,Wdq", moveVector),
  row("movupd", "66 0F 11", "Wdq,Vdq", moveVector),
  row("movss", "F3 0F 10", "Vdq,Wd", moveScalar(4)),
  row("movss", "F3 0F 11", "Wd,Vdq", moveScalar(4)),
  row("movsd", "F2 0F 10", "Vdq,Wq", moveScalar(8)),
  row("movsd", "F2 0F 11", "Wq,Vdq", moveScalar(8)),
  row(
    "movlps",
    "NP 0F 12",
    "Vdq,Mq",
    sse((a, b) => mergeLow(a, b, 8)),
  ),
  row(
    "movhlps",
    "NP 0F 12",
    "Vdq,Udq",
    sse((a, b) => a.shuffle(b, elements(8, [3, 1]))),
  ),
  row("movlps", "NP 0F 13", "Mq,Vdq", moveVector),
  row(
    "movlpd",
    "66 0F 12",
    "Vdq,Mq",
    sse((a, b) => mergeLow(a, b, 8)),
  ),
  row("movlpd", "66 0F 13", "Mq,Vdq", moveVector),
  row(
    "movddup",
    "F2 0F 12",
    "Vdq,Wq",
    sse((_, b) => b.shuffle(b, elements(8, [0, 0]))),
  ),
  row(
    "movsldup",
    "F3 0F 12",
    "Vdq,Wdq",
    sse((_, b) => b.shuffle(b, elements(4, [0, 0, 2, 2]))),
    aligned,
  ),
  row(
    "movshdup",
    "F3 0F 16",
    "Vdq,Wdq",
    sse((_, b) => b.shuffle(b, elements(4, [1, 1, 3, 3]))),
    aligned,
  ),
  row("unpcklps", "NP 0F 14", "Vdq,Wdq", sse(unpackLowSingle), aligned),
  row("unpcklpd", "66 0F 14", "Vdq,Wdq", sse(lowOfBoth), aligned),
  row("unpckhps", "NP 0F 15", "Vdq,Wdq", sse(unpackHighSingle), aligned),
  row("unpckhpd", "66 0F 15", "Vdq,Wdq", sse(highOfBoth), aligned),
  row("movhps", "NP 0F 16", "Vdq,Mq", sse(lowOfBoth)),
  row("movlhps", "NP 0F 16", "Vdq,Udq", sse(lowOfBoth)),
  row("movhps", "NP 0F 17", "Mq,Vdq", storeHigh),
  row("movhpd", "66 0F 16", "Vdq,Mq", sse(lowOfBoth)),
  row("movhpd", "66 0F 17", "Mq,Vdq", storeHigh),
  row("movaps", "NP 0F 28", "Vdq,Wdq", moveVector, aligned),
  row("movaps", "NP 0F 29", "Wdq,Vdq", moveVector, aligned),
  row("movapd", "66 0F 28", "Vdq,Wdq", moveVector, aligned),
  row("movapd", "66 0F 29", "Wdq,Vdq", moveVector, aligned),
  row("movntps", "NP 0F 2B", "Mdq,Vdq", moveVector, aligned),
  row("movntpd", "66 0F 2B", "Mdq,Vdq", moveVector, aligned),
  row("movmskps", "NP 0F 50", "Gd,Udq", mask("i32x4Bitmask")),
  row("movmskpd", "66 0F 50", "Gd,Udq", mask("i64x2Bitmask")),
  row("andps", "NP 0F 54", "Vdq,Wdq", sse(and), aligned),
  row("andpd", "66 0F 54", "Vdq,Wdq", sse(and), aligned),
  row("andnps", "NP 0F 55", "Vdq,Wdq", sse(andNot), aligned),
  row("andnpd", "66 0F 55", "Vdq,Wdq", sse(andNot), aligned),
  row("orps", "NP 0F 56", "Vdq,Wdq", sse(or), aligned),
  row("orpd", "66 0F 56", "Vdq,Wdq", sse(or), aligned),
  row("xorps", "NP 0F 57", "Vdq,Wdq", sse(xor), aligned),
  row("xorpd", "66 0F 57", "Vdq,Wdq", sse(xor), aligned),
  row("movd", "66 0F 6E", "Vdq,Ey", fromGeneral),
  row("movd", "66 0F 7E", "Ey,Vdq", toGeneral),
  row("movq", "F3 0F 7E", "Vdq,Wq", moveLow),
  row("movq", "66 0F D6", "Wq,Vdq", moveLow),
  row("movdqa", "66 0F 6F", "Vdq,Wdq", moveVector, aligned),
  row("movdqa", "66 0F 7F", "Wdq,Vdq", moveVector, aligned),
  row("movdqu", "F3 0F 6F", "Vdq,Wdq", moveVector),
  row("movdqu", "F3 0F 7F", "Wdq,Vdq", moveVector),
  row("ldmxcsr", "NP 0F AE /2", "Md", loadControl),
  row("stmxcsr", "NP 0F AE /3", "Md", storeControl),
  row("shufps", "NP 0F C6", "Vdq,Wdq,Ib", sse(shuffleSingle), aligned),
  row("shufpd", "66 0F C6", "Vdq,Wdq,Ib", sse(shuffleDouble), aligned),
  row("pmovmskb", "66 0F D7", "Gd,Udq", mask("i8x16Bitmask")),
  row("movntdq", "66 0F E7", "Mdq,Vdq", moveVector, aligned),
  row("lddqu", "F2 0F F0", "Vdq,Mdq", moveVector),
];
