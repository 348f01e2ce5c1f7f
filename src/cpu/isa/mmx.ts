import { i32, load, store } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import { maskedStore } from "./masked-store.js";
import type { Meaning } from "./meaning.js";
import { PACKED, PACKED_SHIFTS, type PackedShift, shiftPacked } from "./packed.js";
import type { IsaRow } from "./row.js";
import { indexPlus, shuffleWords } from "./sse-integer.js";
import { enterMmx, immediateByte, joined, mmx, type VectorCompute, ZERO } from "./vector-form.js";

/** Tags of eight empty registers. */
const ALL_EMPTY = 0xffff;
/** What every MMX register holds where an x87 register has its sign and exponent. */
const EXPONENT = 0xffff;

/** dst := src, 8 bytes. */
function move(m: Meaning): void {
  m.requireMmx();
  m.writeVector(0, m.readVector(1));
  enterMmx(m);
}

/** MOVD and MOVQ between MMX and general registers or memory. */
function fromGeneral(m: Meaning): void {
  m.requireMmx();
  m.writeVector(0, ZERO.withLane64(0, m.readUnsigned(1)));
  enterMmx(m);
}
function toGeneral(m: Meaning): void {
  m.requireMmx();
  m.write(0, m.readVector(1).lane64(0));
  enterMmx(m);
}

/** MOVQ2DQ and MOVDQ2Q: both register files must be usable. */
function moveAcross(m: Meaning): void {
  m.requireSse();
  m.requireMmx();
  m.writeVector(0, m.readVector(1));
  enterMmx(m);
}

/** EMMS. TOP becomes 0 as with every other MMX instruction. */
function empty(m: Meaning): void {
  m.requireMmx();
  enterMmx(m);
  m.f.emit(store.i32_16(i32(REG.FTW), i32(ALL_EMPTY)));
}

function shiftByImmediate(shift: PackedShift): (m: Meaning) => void {
  return (m) => {
    m.requireMmx();
    m.writeVector(0, shiftPacked(shift, m.readVector(0), m.f.tmp(m.immediate().and(0xffn))));
    enterMmx(m);
  };
}

const alignRight: VectorCompute = (a, b, m) => joined(b, a).op("swizzle", indexPlus(immediateByte(m)));

function insertWord(m: Meaning): void {
  m.requireMmx();
  const value = m.readUnsigned(1).toI32();
  const register = m.f.tmp(m.vectorAddress(0));
  m.f.emit(store.i32_16(register.add(immediateByte(m).and(3).shl(1)), value));
  m.f.emit(store.i32_16(register, i32(EXPONENT), 8));
  enterMmx(m);
}

function extractWord(m: Meaning): void {
  m.requireMmx();
  m.write(0, load.i64_16U(m.vectorAddress(1).add(immediateByte(m).and(3).shl(1))));
  enterMmx(m);
}

function signMask(m: Meaning): void {
  m.requireMmx();
  // The upper half is zero and has no signs.
  m.write(0, m.readVector(1).test("i8x16Bitmask").toI64U());
  enterMmx(m);
}

/** The MMX instructions with their SSE and SSSE3 extensions. */
export const mmxRows: readonly IsaRow[] = [
  ...PACKED.map(
    ({ mnemonic, opcode, compute, mmx: own, mmxBytes }): IsaRow => ({
      mnemonic,
      opcode: `NP ${opcode}`,
      operands: mmxBytes === 4 ? "Pq,Qd" : "Pq,Qq",
      meaning: mmx(own ?? compute),
    }),
  ),
  ...PACKED_SHIFTS.flatMap((shift): IsaRow[] => [
    {
      mnemonic: shift.mnemonic,
      opcode: `NP 0F ${shift.byte}`,
      operands: "Pq,Qq",
      meaning: mmx((a, b, m) => shiftPacked(shift, a, m.f.tmp(b.lane64(0)))),
    },
    { mnemonic: shift.mnemonic, opcode: `NP 0F ${shift.group}`, operands: "Nq,Ib", meaning: shiftByImmediate(shift) },
  ]),
  { mnemonic: "movd", opcode: "NP 0F 6E", operands: "Pq,Ey", meaning: fromGeneral },
  { mnemonic: "movd", opcode: "NP 0F 7E", operands: "Ey,Pq", meaning: toGeneral },
  { mnemonic: "movq", opcode: "NP 0F 6F", operands: "Pq,Qq", meaning: move },
  { mnemonic: "movq", opcode: "NP 0F 7F", operands: "Qq,Pq", meaning: move },
  { mnemonic: "pshufw", opcode: "NP 0F 70", operands: "Pq,Qq,Ib", meaning: mmx(shuffleWords(false)) },
  { mnemonic: "emms", opcode: "NP 0F 77", operands: "", meaning: empty },
  { mnemonic: "pinsrw", opcode: "NP 0F C4", operands: "Pq,Ew,Ib", meaning: insertWord },
  { mnemonic: "pextrw", opcode: "NP 0F C5", operands: "Gd,Nq,Ib", meaning: extractWord },
  { mnemonic: "movq2dq", opcode: "F3 0F D6", operands: "Vdq,Nq", meaning: moveAcross },
  { mnemonic: "movdq2q", opcode: "F2 0F D6", operands: "Pq,Udq", meaning: moveAcross },
  { mnemonic: "pmovmskb", opcode: "NP 0F D7", operands: "Gd,Nq", meaning: signMask },
  { mnemonic: "movntq", opcode: "NP 0F E7", operands: "Mq,Pq", meaning: move },
  {
    mnemonic: "maskmovq",
    opcode: "NP 0F F7",
    operands: "Pq,Nq",
    meaning: (m) => {
      m.requireMmx();
      maskedStore(m, 8);
      enterMmx(m);
    },
  },
  { mnemonic: "palignr", opcode: "NP 0F 3A 0F", operands: "Pq,Qq,Ib", meaning: mmx(alignRight) },
];
