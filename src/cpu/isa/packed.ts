import { i32, type SimdBinary, type SimdShift, type V128 } from "../../wasm/expression.js";
import { bytes16, elements, joined, lanes, type VectorCompute, ZERO } from "./vector-form.js";

/** A packed integer instruction with an MMX and an XMM form under the same opcode byte. */
export interface PackedOperation {
  readonly mnemonic: string;
  /** Map and opcode byte. */
  readonly opcode: string;
  readonly compute: VectorCompute;
  /** The MMX form where it is not the low half of the XMM form. */
  readonly mmx?: VectorCompute;
  /** Bytes of the MMX form's memory operand where it is not 8. */
  readonly mmxBytes?: 4;
}

const op =
  (name: SimdBinary): VectorCompute =>
  (a, b) =>
    a.op(name, b);

/** Interleaves the low or high halves of two registers. */
function unpack(size: number, high: boolean): Pick<PackedOperation, "compute" | "mmx" | "mmxBytes"> {
  const order = (first: number, count: number): number[] =>
    Array.from({ length: count }, (_, n) => [first + n, first + n + 16 / size]).flat();
  const half = 8 / size;
  const compute: VectorCompute = (a, b) => a.shuffle(b, elements(size, order(high ? half : 0, half)));
  if (!high) return { compute, mmxBytes: 4 };
  // The high half of an MMX register is the second quarter of the vector.
  return {
    compute,
    mmx: (a, b) => a.shuffle(b, elements(size, [...order(half / 2, half / 2), ...order(0, half / 2)])),
  };
}

/** A narrowing pack: the elements of the first operand, then those of the second. */
function pack(name: SimdBinary): Pick<PackedOperation, "compute" | "mmx"> {
  return { compute: op(name), mmx: (a, b, m) => op(name)(m.f.tmp(joined(a, b)), ZERO, m) };
}

/** Combines neighbours: even elements with odd ones, of the first operand, then of the second. */
function horizontal(size: number, name: SimdBinary): Pick<PackedOperation, "compute" | "mmx"> {
  const every = (first: number): number[] =>
    elements(
      size,
      Array.from({ length: 16 / size }, (_, n) => first + 2 * n),
    );
  const compute: VectorCompute = (a, b) => a.shuffle(b, every(0)).op(name, a.shuffle(b, every(1)));
  return { compute, mmx: (a, b, m) => compute(m.f.tmp(joined(a, b)), ZERO, m) };
}

const MULTIPLY_HIGH = elements(2, [1, 3, 5, 7, 9, 11, 13, 15]);

function multiplyHigh(sign: "S" | "U"): VectorCompute {
  return (a, b) => a.op(`i32x4ExtmulLowI16x8${sign}`, b).shuffle(a.op(`i32x4ExtmulHighI16x8${sign}`, b), MULTIPLY_HIGH);
}

const EVEN_DWORDS = elements(4, [0, 2, 0, 2]);

/** PMULUDQ, PMULDQ: products of the even dwords. */
export function multiplyEven(sign: "S" | "U"): VectorCompute {
  return (a, b) => a.shuffle(a, EVEN_DWORDS).op(`i64x2ExtmulLowI32x4${sign}`, b.shuffle(b, EVEN_DWORDS));
}

/** PSADBW: sums of absolute differences of bytes, one sum for each 8 bytes. */
const sumOfDifferences: VectorCompute = (a, b, m) => {
  const difference = a.op("i8x16SubSatU", b).op("or", b.op("i8x16SubSatU", a));
  const quarters = m.f.tmp(difference.unary("i16x8ExtaddPairwiseI8x16U").unary("i32x4ExtaddPairwiseI16x8U"));
  const low = quarters.op("and", lanes([-1, 0, -1, 0], 32));
  return low.op("i64x2Add", quarters.shift("i64x2ShrU", i32(32)));
};

/** PMADDUBSW: bytes of the destination are unsigned, those of the source signed. */
const multiplyAddBytes: VectorCompute = (a, b) => {
  const eight = i32(8);
  const even = a
    .op("and", lanes(Array(8).fill(0xff), 16))
    .op("i16x8Mul", b.shift("i16x8Shl", eight).shift("i16x8ShrS", eight));
  const odd = a.shift("i16x8ShrU", eight).op("i16x8Mul", b.shift("i16x8ShrS", eight));
  return even.op("i16x8AddSatS", odd);
};

/** PMULHRSW: WebAssembly's operation saturates where x86 gives 0x8000. */
const multiplyRounded: VectorCompute = (a, b) => {
  const least = lanes(Array(8).fill(0x8000), 16);
  const overflow = a.op("i16x8Eq", least).op("and", b.op("i16x8Eq", least));
  return a.op("i16x8Q15MulrSatS", b).op("xor", overflow);
};

/** PSIGN: negated where the source is negative, zero where it is zero. */
function sign(lane: "i8x16" | "i16x8" | "i32x4"): VectorCompute {
  return (a, b) =>
    a
      .unary(`${lane}Neg`)
      .bitselect(a, ZERO.op(`${lane}GtS`, b))
      .op("andnot", b.op(`${lane}Eq`, ZERO));
}

/** PSHUFB: index bits 3:0 (2:0 for MMX), zero where bit 7 is set. WebAssembly gives zero for every index above 15. */
function shuffleBytes(indexMask: number): VectorCompute {
  return (a, b) => a.op("swizzle", b.op("and", bytes16(Array(16).fill(indexMask))));
}

export const PACKED: readonly PackedOperation[] = [
  { mnemonic: "punpcklbw", opcode: "0F 60", ...unpack(1, false) },
  { mnemonic: "punpcklwd", opcode: "0F 61", ...unpack(2, false) },
  { mnemonic: "punpckldq", opcode: "0F 62", ...unpack(4, false) },
  { mnemonic: "packsswb", opcode: "0F 63", ...pack("i8x16NarrowS") },
  { mnemonic: "pcmpgtb", opcode: "0F 64", compute: op("i8x16GtS") },
  { mnemonic: "pcmpgtw", opcode: "0F 65", compute: op("i16x8GtS") },
  { mnemonic: "pcmpgtd", opcode: "0F 66", compute: op("i32x4GtS") },
  { mnemonic: "packuswb", opcode: "0F 67", ...pack("i8x16NarrowU") },
  { mnemonic: "punpckhbw", opcode: "0F 68", ...unpack(1, true) },
  { mnemonic: "punpckhwd", opcode: "0F 69", ...unpack(2, true) },
  { mnemonic: "punpckhdq", opcode: "0F 6A", ...unpack(4, true) },
  { mnemonic: "packssdw", opcode: "0F 6B", ...pack("i16x8NarrowS") },
  { mnemonic: "pcmpeqb", opcode: "0F 74", compute: op("i8x16Eq") },
  { mnemonic: "pcmpeqw", opcode: "0F 75", compute: op("i16x8Eq") },
  { mnemonic: "pcmpeqd", opcode: "0F 76", compute: op("i32x4Eq") },
  { mnemonic: "paddq", opcode: "0F D4", compute: op("i64x2Add") },
  { mnemonic: "pmullw", opcode: "0F D5", compute: op("i16x8Mul") },
  { mnemonic: "psubusb", opcode: "0F D8", compute: op("i8x16SubSatU") },
  { mnemonic: "psubusw", opcode: "0F D9", compute: op("i16x8SubSatU") },
  { mnemonic: "pminub", opcode: "0F DA", compute: op("i8x16MinU") },
  { mnemonic: "pand", opcode: "0F DB", compute: op("and") },
  { mnemonic: "paddusb", opcode: "0F DC", compute: op("i8x16AddSatU") },
  { mnemonic: "paddusw", opcode: "0F DD", compute: op("i16x8AddSatU") },
  { mnemonic: "pmaxub", opcode: "0F DE", compute: op("i8x16MaxU") },
  { mnemonic: "pandn", opcode: "0F DF", compute: (a, b) => b.op("andnot", a) },
  { mnemonic: "pavgb", opcode: "0F E0", compute: op("i8x16AvgrU") },
  { mnemonic: "pavgw", opcode: "0F E3", compute: op("i16x8AvgrU") },
  { mnemonic: "pmulhuw", opcode: "0F E4", compute: multiplyHigh("U") },
  { mnemonic: "pmulhw", opcode: "0F E5", compute: multiplyHigh("S") },
  { mnemonic: "psubsb", opcode: "0F E8", compute: op("i8x16SubSatS") },
  { mnemonic: "psubsw", opcode: "0F E9", compute: op("i16x8SubSatS") },
  { mnemonic: "pminsw", opcode: "0F EA", compute: op("i16x8MinS") },
  { mnemonic: "por", opcode: "0F EB", compute: op("or") },
  { mnemonic: "paddsb", opcode: "0F EC", compute: op("i8x16AddSatS") },
  { mnemonic: "paddsw", opcode: "0F ED", compute: op("i16x8AddSatS") },
  { mnemonic: "pmaxsw", opcode: "0F EE", compute: op("i16x8MaxS") },
  { mnemonic: "pxor", opcode: "0F EF", compute: op("xor") },
  { mnemonic: "pmuludq", opcode: "0F F4", compute: multiplyEven("U") },
  { mnemonic: "pmaddwd", opcode: "0F F5", compute: op("i32x4DotI16x8S") },
  { mnemonic: "psadbw", opcode: "0F F6", compute: sumOfDifferences },
  { mnemonic: "psubb", opcode: "0F F8", compute: op("i8x16Sub") },
  { mnemonic: "psubw", opcode: "0F F9", compute: op("i16x8Sub") },
  { mnemonic: "psubd", opcode: "0F FA", compute: op("i32x4Sub") },
  { mnemonic: "psubq", opcode: "0F FB", compute: op("i64x2Sub") },
  { mnemonic: "paddb", opcode: "0F FC", compute: op("i8x16Add") },
  { mnemonic: "paddw", opcode: "0F FD", compute: op("i16x8Add") },
  { mnemonic: "paddd", opcode: "0F FE", compute: op("i32x4Add") },
  { mnemonic: "pshufb", opcode: "0F 38 00", compute: shuffleBytes(0x8f), mmx: shuffleBytes(0x87) },
  { mnemonic: "phaddw", opcode: "0F 38 01", ...horizontal(2, "i16x8Add") },
  { mnemonic: "phaddd", opcode: "0F 38 02", ...horizontal(4, "i32x4Add") },
  { mnemonic: "phaddsw", opcode: "0F 38 03", ...horizontal(2, "i16x8AddSatS") },
  { mnemonic: "pmaddubsw", opcode: "0F 38 04", compute: multiplyAddBytes },
  { mnemonic: "phsubw", opcode: "0F 38 05", ...horizontal(2, "i16x8Sub") },
  { mnemonic: "phsubd", opcode: "0F 38 06", ...horizontal(4, "i32x4Sub") },
  { mnemonic: "phsubsw", opcode: "0F 38 07", ...horizontal(2, "i16x8SubSatS") },
  { mnemonic: "psignb", opcode: "0F 38 08", compute: sign("i8x16") },
  { mnemonic: "psignw", opcode: "0F 38 09", compute: sign("i16x8") },
  { mnemonic: "psignd", opcode: "0F 38 0A", compute: sign("i32x4") },
  { mnemonic: "pmulhrsw", opcode: "0F 38 0B", compute: multiplyRounded },
  { mnemonic: "pabsb", opcode: "0F 38 1C", compute: (_, b) => b.unary("i8x16Abs") },
  { mnemonic: "pabsw", opcode: "0F 38 1D", compute: (_, b) => b.unary("i16x8Abs") },
  { mnemonic: "pabsd", opcode: "0F 38 1E", compute: (_, b) => b.unary("i32x4Abs") },
];

/** A shift of packed elements by one count for all. */
export interface PackedShift {
  readonly mnemonic: string;
  /** Opcode byte of the form with the count in a register or memory. */
  readonly byte: string;
  /** Opcode byte and ModR/M.reg of the form with an immediate count. */
  readonly group: string;
  readonly name: SimdShift;
  readonly bits: number;
}

export const PACKED_SHIFTS: readonly PackedShift[] = [
  { mnemonic: "psrlw", byte: "D1", group: "71 /2", name: "i16x8ShrU", bits: 16 },
  { mnemonic: "psrld", byte: "D2", group: "72 /2", name: "i32x4ShrU", bits: 32 },
  { mnemonic: "psrlq", byte: "D3", group: "73 /2", name: "i64x2ShrU", bits: 64 },
  { mnemonic: "psraw", byte: "E1", group: "71 /4", name: "i16x8ShrS", bits: 16 },
  { mnemonic: "psrad", byte: "E2", group: "72 /4", name: "i32x4ShrS", bits: 32 },
  { mnemonic: "psllw", byte: "F1", group: "71 /6", name: "i16x8Shl", bits: 16 },
  { mnemonic: "pslld", byte: "F2", group: "72 /6", name: "i32x4Shl", bits: 32 },
  { mnemonic: "psllq", byte: "F3", group: "73 /6", name: "i64x2Shl", bits: 64 },
];

/** Shifts by a count of any size: beyond the element there are only zeros, or copies of the sign. */
export function shiftPacked({ name, bits }: PackedShift, a: V128, count: ReturnType<V128["lane64"]>): V128 {
  const beyond = count.geU(BigInt(bits));
  if (name.endsWith("ShrS")) return a.shift(name, beyond.select(i32(bits - 1), count.toI32()));
  return beyond.select(ZERO, a.shift(name, count.toI32()));
}
