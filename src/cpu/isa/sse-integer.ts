import { type I32, i32, load, store, type V128 } from "../../wasm/expression.js";
import { maskedStore } from "./masked-store.js";
import type { Meaning } from "./meaning.js";
import { PACKED, PACKED_SHIFTS, type PackedShift, shiftPacked } from "./packed.js";
import type { IsaRow } from "./row.js";
import { dwordOrder } from "./sse-move.js";
import { bytes16, elements, IDENTITY, immediateByte, lanes, sse, type VectorCompute } from "./vector-form.js";

function shiftByVector(shift: PackedShift): (m: Meaning) => void {
  return sse((a, b, m) => shiftPacked(shift, a, m.f.tmp(b.lane64(0))));
}

function shiftByImmediate(shift: PackedShift): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    m.writeVector(0, shiftPacked(shift, m.readVector(0), m.f.tmp(m.immediate().and(0xffn))));
  };
}

/** PSLLDQ, PSRLDQ: whole register by bytes. An index outside the register gives zero. */
function shiftBytes(left: boolean): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const count = immediateByte(m);
    const distance = count.gtU(15).select(i32(16), count).splat8x16();
    const identity = bytes16(IDENTITY);
    m.writeVector(0, m.readVector(0).op("swizzle", identity.op(left ? "i8x16Sub" : "i8x16Add", distance)));
  };
}

/** Bytes of both operands, the source low, moved down by the immediate. */
const alignRight: VectorCompute = (a, b, m) => {
  const index = m.f.tmp(indexPlus(immediateByte(m)));
  return b.op("swizzle", index).op("or", a.op("swizzle", index.op("i8x16Sub", bytes16(Array(16).fill(16)))));
};

/** 0..15 plus a count of up to 255, no more than 255. */
export function indexPlus(count: I32): V128 {
  return bytes16(IDENTITY).op("i8x16AddSatU", count.splat8x16());
}

/** PSHUFLW, PSHUFHW, PSHUFW: four words of one half, two bits of the immediate for each. */
export function shuffleWords(high: boolean): VectorCompute {
  const place = [64, 16, 4, 1];
  const none = [0, 0, 0, 0];
  const first = high ? 0x0908 : 0x0100;
  const base = high
    ? [0x0100, 0x0302, 0x0504, 0x0706, ...none.map(() => first)]
    : [...none.map(() => first), 0x0908, 0x0b0a, 0x0d0c, 0x0f0e];
  return (_, b, m) => {
    const choice = immediateByte(m)
      .splat16x8()
      .op("i16x8Mul", lanes(high ? [...none, ...place] : [...place, ...none], 16));
    const element = choice.shift("i16x8ShrU", i32(6)).op("and", lanes(Array(8).fill(3), 16));
    return b.op("swizzle", element.op("i16x8Mul", lanes(Array(8).fill(0x0202), 16)).op("i16x8Add", lanes(base, 16)));
  };
}

function insertWord(m: Meaning): void {
  m.requireSse();
  const value = m.readUnsigned(1).toI32();
  m.f.emit(store.i32_16(m.vectorAddress(0).add(immediateByte(m).and(7).shl(1)), value));
}

function extractWord(m: Meaning): void {
  m.requireSse();
  m.write(0, load.i64_16U(m.vectorAddress(1).add(immediateByte(m).and(7).shl(1))));
}

/** Packed integer instructions of SSE2 and SSSE3. */
export const sseIntegerRows: readonly IsaRow[] = [
  ...PACKED.map(
    ({ mnemonic, opcode, compute }): IsaRow => ({
      mnemonic,
      opcode: `66 ${opcode}`,
      operands: "Vdq,Wdq",
      meaning: sse(compute),
      aligned: true,
    }),
  ),
  ...PACKED_SHIFTS.flatMap((shift): IsaRow[] => [
    {
      mnemonic: shift.mnemonic,
      opcode: `66 0F ${shift.byte}`,
      operands: "Vdq,Wdq",
      meaning: shiftByVector(shift),
      aligned: true,
    },
    { mnemonic: shift.mnemonic, opcode: `66 0F ${shift.group}`, operands: "Udq,Ib", meaning: shiftByImmediate(shift) },
  ]),
  { mnemonic: "psrldq", opcode: "66 0F 73 /3", operands: "Udq,Ib", meaning: shiftBytes(false) },
  { mnemonic: "pslldq", opcode: "66 0F 73 /7", operands: "Udq,Ib", meaning: shiftBytes(true) },
  {
    mnemonic: "punpcklqdq",
    opcode: "66 0F 6C",
    operands: "Vdq,Wdq",
    meaning: sse((a, b) => a.shuffle(b, elements(8, [0, 2]))),
    aligned: true,
  },
  {
    mnemonic: "punpckhqdq",
    opcode: "66 0F 6D",
    operands: "Vdq,Wdq",
    meaning: sse((a, b) => a.shuffle(b, elements(8, [1, 3]))),
    aligned: true,
  },
  {
    mnemonic: "pshufd",
    opcode: "66 0F 70",
    operands: "Vdq,Wdq,Ib",
    meaning: sse((_, b, m) => b.op("swizzle", dwordOrder(m))),
    aligned: true,
  },
  { mnemonic: "pshuflw", opcode: "F2 0F 70", operands: "Vdq,Wdq,Ib", meaning: sse(shuffleWords(false)), aligned: true },
  { mnemonic: "pshufhw", opcode: "F3 0F 70", operands: "Vdq,Wdq,Ib", meaning: sse(shuffleWords(true)), aligned: true },
  { mnemonic: "pinsrw", opcode: "66 0F C4", operands: "Vdq,Ew,Ib", meaning: insertWord },
  { mnemonic: "pextrw", opcode: "66 0F C5", operands: "Gd,Udq,Ib", meaning: extractWord },
  {
    mnemonic: "maskmovdqu",
    opcode: "66 0F F7",
    operands: "Vdq,Udq",
    meaning: (m) => {
      m.requireSse();
      maskedStore(m, 16);
    },
  },
  { mnemonic: "palignr", opcode: "66 0F 3A 0F", operands: "Vdq,Wdq,Ib", meaning: sse(alignRight), aligned: true },
];
