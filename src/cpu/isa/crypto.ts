import { type I32, i32, load, type V128 } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { IsaRow } from "./row.js";
import { elements, immediateByte, sse, type VectorCompute } from "./vector-form.js";

/** ShiftRows and its inverse: byte 4c + r of the state is row r of column c. */
const shiftRows = (step: 1 | 3): number[] => Array.from({ length: 16 }, (_, n) => (n + 4 * step * (n & 3)) & 15);

function encrypt(last: boolean): VectorCompute {
  return (a, b, m) => {
    const state = m.f.call(m.runtime.aesSubstitute, a.shuffle(a, shiftRows(1)));
    return (last ? state : m.f.call(m.runtime.aesMixColumns, state)).op("xor", b);
  };
}

function decrypt(last: boolean): VectorCompute {
  return (a, b, m) => {
    const state = m.f.call(m.runtime.aesSubstituteInverse, a.shuffle(a, shiftRows(3)));
    return (last ? state : m.f.call(m.runtime.aesMixColumnsInverse, state)).op("xor", b);
  };
}

/** AESKEYGENASSIST: S-box of dwords 1 and 3, as they are and rotated by a byte with the round constant. */
const keyAssist: VectorCompute = (_, b, m) => {
  const s = m.f.tmp(m.f.call(m.runtime.aesSubstitute, b));
  const placed = m.f.tmp(s.shuffle(s, [4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12]));
  const constant = m.f.tmp(immediateByte(m).toI64U().shl(32n));
  return placed.op("xor", constant.splat64x2());
};

/** PCLMULQDQ: immediate bit 0 chooses the half of the destination, bit 4 that of the source. */
const multiplyCarryless: VectorCompute = (a, b, m) => {
  const choice = immediateByte(m);
  const x = choice.and(1).select(a.lane64(1), a.lane64(0));
  const y = choice.and(16).select(b.lane64(1), b.lane64(0));
  return m.f.call(m.runtime.multiplyCarryless, x, y);
};

const sha1NextE: VectorCompute = (a, b) => b.withLane32(3, b.lane32(3).add(a.lane32(3).rotl(30)));
const sha1Message1: VectorCompute = (a, b) => a.op("xor", a.shuffle(b, elements(4, [6, 7, 0, 1])));
const sha1Message2: VectorCompute = (a, b, m) => {
  const w16 = m.f.tmp(a.lane32(3).xor(b.lane32(2)).rotl(1));
  const w17 = a.lane32(2).xor(b.lane32(1)).rotl(1);
  const w18 = a.lane32(1).xor(b.lane32(0)).rotl(1);
  const w19 = a.lane32(0).xor(w16).rotl(1);
  return w16.splat32x4().withLane32(2, w17).withLane32(1, w18).withLane32(0, w19);
};

/** The message schedule's functions of SHA-256: two rotations to the right and a shift. */
const sigma0 = (x: V128): V128 =>
  rotate(x, 7)
    .op("xor", rotate(x, 18))
    .op("xor", x.shift("i32x4ShrU", i32(3)));
const rotate = (x: V128, right: number): V128 =>
  x.shift("i32x4ShrU", i32(right)).op("or", x.shift("i32x4Shl", i32(32 - right)));
const sigma1 = (x: I32): I32 =>
  x
    .rotl(32 - 17)
    .xor(x.rotl(32 - 19))
    .xor(x.shrU(10));

const sha256Message1: VectorCompute = (a, b, m) => {
  const next = m.f.tmp(a.shuffle(b, elements(4, [1, 2, 3, 4])));
  return a.op("i32x4Add", sigma0(next));
};
const sha256Message2: VectorCompute = (a, b, m) => {
  const { f } = m;
  const w14 = f.tmp(b.lane32(2));
  const w15 = f.tmp(b.lane32(3));
  const w16 = f.tmp(a.lane32(0).add(sigma1(w14)));
  const w17 = f.tmp(a.lane32(1).add(sigma1(w15)));
  const w18 = a.lane32(2).add(sigma1(w16));
  const w19 = a.lane32(3).add(sigma1(w17));
  return w16.splat32x4().withLane32(1, w17).withLane32(2, w18).withLane32(3, w19);
};

const sha1Rounds: VectorCompute = (a, b, m) => m.f.call(m.runtime.sha1Rounds, a, b, immediateByte(m));
const sha256Rounds: VectorCompute = (a, b, m) => m.f.call(m.runtime.sha256Rounds, a, b, load.v128(i32(REG.XMM)));

const row = (mnemonic: string, opcode: string, compute: VectorCompute, immediate = false): IsaRow => ({
  mnemonic,
  opcode,
  operands: immediate ? "Vdq,Wdq,Ib" : "Vdq,Wdq",
  meaning: sse(compute),
  aligned: true,
});

/** AES-NI, PCLMULQDQ and the SHA extensions. */
export const cryptoRows: readonly IsaRow[] = [
  row("aesimc", "66 0F 38 DB", (_, b, m) => m.f.call(m.runtime.aesMixColumnsInverse, b)),
  row("aesenc", "66 0F 38 DC", encrypt(false)),
  row("aesenclast", "66 0F 38 DD", encrypt(true)),
  row("aesdec", "66 0F 38 DE", decrypt(false)),
  row("aesdeclast", "66 0F 38 DF", decrypt(true)),
  row("aeskeygenassist", "66 0F 3A DF", keyAssist, true),
  row("pclmulqdq", "66 0F 3A 44", multiplyCarryless, true),
  row("sha1nexte", "NP 0F 38 C8", sha1NextE),
  row("sha1msg1", "NP 0F 38 C9", sha1Message1),
  row("sha1msg2", "NP 0F 38 CA", sha1Message2),
  row("sha256rnds2", "NP 0F 38 CB", sha256Rounds),
  row("sha256msg1", "NP 0F 38 CC", sha256Message1),
  row("sha256msg2", "NP 0F 38 CD", sha256Message2),
  row("sha1rnds4", "NP 0F 3A CC", sha1Rounds, true),
];
