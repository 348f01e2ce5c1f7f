import { type I32, i32, store, type V128 } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";
import { bytes16, elements, immediateByte, lanes, ZERO } from "./vector-form.js";

const RAX = 0;
const RCX = 1;
const RDX = 2;
/** Bits of the immediate: elements are words; the last instead of the first index, or a mask of elements instead of bits. */
const WORDS = 1;
const EXPANDED = 0x40;

const BITS = [1, 2, 4, 8, 16, 32, 64, 128];

/** Length in elements of an operand that ends with the first zero element. */
function implicitLength(value: V128, words: I32): I32 {
  const bytes = value
    .op("i8x16Eq", ZERO)
    .test("i8x16Bitmask")
    .or(1 << 16)
    .ctz();
  const wordZeros = value
    .op("i16x8Eq", ZERO)
    .test("i16x8Bitmask")
    .or(1 << 8)
    .ctz();
  return words.select(wordZeros, bytes);
}

/** Length in elements that a register gives: its absolute value, at most what the operand holds. */
function explicitLength(m: Meaning, index: number, elementCount: I32): I32 {
  const value = m.register(index, m.size === 8 ? 8 : 4);
  const absolute = m.f.tmp(value.ltS(0n).select(value.neg(), value));
  return absolute.geU(elementCount.toI64U()).select(elementCount, absolute.toI32());
}

/** All ones in each element whose bit is set. */
function expand(bits: I32, words: I32): V128 {
  const both = bits.splat16x8();
  const wordBits = lanes(BITS, 16);
  const byteBits = bytes16([...BITS, ...BITS]);
  const bytes = both.shuffle(both, [...elements(1, Array(8).fill(0)), ...elements(1, Array(8).fill(1))]);
  return words.select(
    both.op("and", wordBits).op("i16x8Eq", wordBits),
    bytes.op("and", byteBits).op("i8x16Eq", byteBits),
  );
}

/** PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. */
function compare(explicit: boolean, toIndex: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    const control = immediateByte(m);
    const words = f.tmp(control.and(WORDS));
    const count = f.tmp(words.select(i32(8), i32(16)));
    const lengthA = f.tmp(explicit ? explicitLength(m, RAX, count) : implicitLength(a, words));
    const lengthB = f.tmp(explicit ? explicitLength(m, RDX, count) : implicitLength(b, words));
    const result = f.tmp(f.call(m.runtime.compareStrings, a, b, lengthA, lengthB, control));
    const expanded = f.tmp(control.and(EXPANDED));
    if (toIndex) {
      const index = expanded.select(i32(31).sub(result.clz()), result.ctz());
      m.setRegister(RCX, 4, result.eqz().select(count, index).toI64U());
    } else {
      m.f.emit(store.v128(i32(REG.XMM), expanded.select(expand(result, words), ZERO.withLane32(0, result))));
    }
    const bit = (value: I32, n: number): I32 => value.shl(n);
    const flags = bit(result.ne(0), 0)
      .or(bit(lengthB.ltU(count), 6))
      .or(bit(lengthA.ltU(count), 7))
      .or(bit(result.and(1), 11));
    m.setFlagBits(f.tmp(flags.toI64U()));
  };
}

/** The string comparisons of SSE4.2. Their memory operands need not be aligned. REX.W makes the lengths 64 bits wide. */
export const sse4StringRows: readonly IsaRow[] = [
  { mnemonic: "pcmpestrm", opcode: "66 0F 3A 60", operands: "Vdq,Wdq,Ib", meaning: compare(true, false), sized: true },
  { mnemonic: "pcmpestri", opcode: "66 0F 3A 61", operands: "Vdq,Wdq,Ib", meaning: compare(true, true), sized: true },
  { mnemonic: "pcmpistrm", opcode: "66 0F 3A 62", operands: "Vdq,Wdq,Ib", meaning: compare(false, false) },
  { mnemonic: "pcmpistri", opcode: "66 0F 3A 63", operands: "Vdq,Wdq,Ib", meaning: compare(false, true) },
];
