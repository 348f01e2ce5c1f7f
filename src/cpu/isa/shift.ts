import { type I32, type I64, i32, i64 } from "../../wasm/expression.js";
import { signExtend, zeroExtend } from "./arithmetic.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const WIDE = [4, 8] as const;

/** The count as the processor takes it: modulo 32, or 64 for 64-bit operands. */
function maskedCount(m: Meaning, n: number, bytes: number): I64 {
  return m.f.tmp(m.read(n).and(bytes === 8 ? 63n : 31n));
}

const bit = (value: I64, n: bigint): I32 => value.shrU(n).toI32().and(1);

function shift(kind: "shl" | "shr" | "sar"): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const bits = BigInt(bytes * 8);
    const { f } = m;
    const a = m.update(0);
    const count = maskedCount(m, 1, bytes);
    const unsigned = kind === "sar" ? a : f.tmp(zeroExtend(a, bytes));
    const raw = kind === "shl" ? unsigned.shl(count) : kind === "shr" ? unsigned.shrU(count) : a.shrS(count);
    const r = f.tmp(signExtend(raw, bytes));
    m.write(0, r);
    f.if(count.ne(0n), () => {
      const out =
        kind === "shl"
          ? bytes === 8
            ? unsigned.shrU(i64(64n).sub(count))
            : unsigned.shl(count).shrU(bits)
          : kind === "shr"
            ? unsigned.shrU(count.sub(1n))
            : a.shrS(count.sub(1n));
      const carry = f.tmp(out.toI32().and(1));
      const overflow = kind === "shl" ? carry.xor(bit(r, 63n)) : kind === "shr" ? bit(a, 63n) : i32(0);
      m.setFlags({ carry, overflow, adjust: i32(0), result: r });
    });
  };
}

/** ROL and ROR. */
function rotate(left: boolean): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const bits = BigInt(bytes * 8);
    const { f } = m;
    const a = m.update(0);
    const count = maskedCount(m, 1, bytes);
    const turn = f.tmp(count.and(bits - 1n));
    let r: I64;
    if (bytes === 8) r = f.tmp(left ? a.rotl(turn) : a.rotr(turn));
    else {
      const value = f.tmp(zeroExtend(a, bytes));
      const back = i64(bits).sub(turn);
      r = f.tmp(signExtend(left ? value.shl(turn).or(value.shrU(back)) : value.shrU(turn).or(value.shl(back)), bytes));
    }
    m.write(0, r);
    f.if(count.ne(0n), () => {
      const carry = f.tmp(left ? r.toI32().and(1) : bit(r, bits - 1n));
      const overflow = left ? carry.xor(bit(r, bits - 1n)) : carry.xor(bit(r, bits - 2n));
      m.setFlags({ carry, overflow });
    });
  };
}

/** RCL and RCR: a rotation of size + 1 bits through CF. */
function rotateThroughCarry(left: boolean): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const bits = BigInt(bytes * 8);
    const { f } = m;
    const a = m.update(0);
    const masked = maskedCount(m, 1, bytes);
    const count = bytes >= 4 ? masked : f.tmp(masked.remU(bits + 1n));
    const value = f.tmp(zeroExtend(a, bytes));
    const carryIn = f.tmp(m.condition("b").toI64U());
    const r = f.temporary("i64");
    const carry = f.temporary("i32");
    f.set(r, a);
    f.set(carry, carryIn.toI32());
    f.if(count.ne(0n), () => {
      const less = f.tmp(count.sub(1n));
      // The bits that come in from behind CF: shifted by one and then by the rest, because a shift by 64 is none.
      const wrapped = left
        ? value.shrU(1n).shrU(i64(bits - 1n).sub(less))
        : value.shl(1n).shl(i64(bits - 1n).sub(less));
      const moved = left
        ? value.shl(count).or(carryIn.shl(less)).or(wrapped)
        : value
            .shrU(count)
            .or(carryIn.shl(i64(bits).sub(count)))
            .or(wrapped);
      f.set(r, signExtend(moved, bytes));
      f.set(carry, left ? value.shrU(i64(bits).sub(count)).toI32().and(1) : value.shrU(less).toI32().and(1));
    });
    m.write(0, r.get);
    f.if(masked.ne(0n), () => {
      const overflow = left ? carry.get.xor(bit(r.get, bits - 1n)) : bit(r.get, bits - 1n).xor(bit(r.get, bits - 2n));
      m.setFlags({ carry: carry.get, overflow });
    });
  };
}

/** SHLD and SHRD. */
function doubleShift(left: boolean): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const bits = BigInt(bytes * 8);
    const { f } = m;
    const a = m.update(0);
    const b = f.tmp(zeroExtend(m.read(1), bytes));
    const count = maskedCount(m, 2, bytes);
    const value = f.tmp(zeroExtend(a, bytes));
    const r = f.temporary("i64");
    const carry = f.temporary("i32");
    f.set(r, a);
    f.set(carry, i32(0));
    f.if(count.ne(0n), () => {
      const less = f.tmp(count.sub(1n));
      if (bytes === 2) {
        // Counts above 16 go on into the source, as if it stood on both sides.
        const wide = f.tmp(left ? value.shl(32n).or(b.shl(16n)).or(value) : value.or(b.shl(16n)).or(value.shl(32n)));
        const out = left ? wide.shl(count).shrU(32n) : wide.shrU(count);
        f.set(r, out.extend16S());
        f.set(carry, left ? bit(wide.shl(count), 48n) : wide.shrU(less).toI32().and(1));
      } else {
        const filled = left
          ? value.shl(count).or(b.shrU(1n).shrU(i64(bits - 1n).sub(count)))
          : value.shrU(count).or(b.shl(1n).shl(i64(bits - 1n).sub(count)));
        f.set(r, signExtend(filled, bytes));
        f.set(carry, (left ? value.shrU(i64(bits).sub(count)) : value.shrU(less)).toI32().and(1));
      }
    });
    m.write(0, r.get);
    f.if(count.ne(0n), () => {
      m.setFlags({ carry: carry.get, overflow: bit(r.get, 63n).xor(bit(a, 63n)), adjust: i32(0), result: r.get });
    });
  };
}

const GROUP: readonly { readonly mnemonic: string; readonly meaning: (m: Meaning) => void; readonly hot: boolean }[] = [
  { mnemonic: "rol", meaning: rotate(true), hot: true },
  { mnemonic: "ror", meaning: rotate(false), hot: false },
  { mnemonic: "rcl", meaning: rotateThroughCarry(true), hot: false },
  { mnemonic: "rcr", meaning: rotateThroughCarry(false), hot: false },
  { mnemonic: "shl", meaning: shift("shl"), hot: true },
  { mnemonic: "shr", meaning: shift("shr"), hot: true },
  { mnemonic: "sal", meaning: shift("shl"), hot: false },
  { mnemonic: "sar", meaning: shift("sar"), hot: true },
];

export const shiftRows: readonly IsaRow[] = [
  ...GROUP.flatMap(({ mnemonic, meaning, hot }, n): IsaRow[] => [
    { mnemonic, opcode: `C0 /${n}`, operands: "Eb,Ib", meaning },
    { mnemonic, opcode: `C1 /${n}`, operands: "Ev,Ib", meaning, ...(hot ? { hot: WIDE } : {}) },
    { mnemonic, opcode: `D0 /${n}`, operands: "Eb,1", meaning },
    { mnemonic, opcode: `D1 /${n}`, operands: "Ev,1", meaning, ...(hot ? { hot: WIDE } : {}) },
    { mnemonic, opcode: `D2 /${n}`, operands: "Eb,CL", meaning },
    { mnemonic, opcode: `D3 /${n}`, operands: "Ev,CL", meaning, ...(hot ? { hot: WIDE } : {}) },
  ]),
  { mnemonic: "shld", opcode: "0F A4", operands: "Ev,Gv,Ib", meaning: doubleShift(true) },
  { mnemonic: "shld", opcode: "0F A5", operands: "Ev,Gv,CL", meaning: doubleShift(true) },
  { mnemonic: "shrd", opcode: "0F AC", operands: "Ev,Gv,Ib", meaning: doubleShift(false) },
  { mnemonic: "shrd", opcode: "0F AD", operands: "Ev,Gv,CL", meaning: doubleShift(false) },
];
