import { type I32, type I64, i32, i64, load } from "../../wasm/expression.js";
import { LOCAL } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

/** Sign-extends a value from so many bytes. */
export function signExtend(value: I64, bytes: number): I64 {
  return bytes === 1 ? value.extend8S() : bytes === 2 ? value.extend16S() : bytes === 4 ? value.extend32S() : value;
}

/** Zero-extends a value from so many bytes. */
export function zeroExtend(value: I64, bytes: number): I64 {
  return bytes === 8 ? value : value.and((1n << BigInt(bytes * 8)) - 1n);
}

type Binary = (m: Meaning, a: I64, b: I64, bytes: number) => I64;

const BINARY: Record<string, { readonly number: number; readonly writes: boolean; readonly compute: Binary }> = {
  add: {
    number: 0,
    writes: true,
    compute: (m, a, b, bytes) => {
      const s = m.f.tmp(signExtend(a.add(b), bytes));
      m.flagsAdd(a, b, s);
      return s;
    },
  },
  or: { number: 1, writes: true, compute: (m, a, b) => logic(m, a.or(b)) },
  adc: {
    number: 2,
    writes: true,
    compute: (m, a, b, bytes) => {
      const s = m.f.tmp(signExtend(a.add(b).add(m.condition("b").toI64U()), bytes));
      m.flagsAdd(a, b, s);
      return s;
    },
  },
  sbb: {
    number: 3,
    writes: true,
    compute: (m, a, b, bytes) => {
      const r = m.f.tmp(signExtend(a.sub(b).sub(m.condition("b").toI64U()), bytes));
      m.flagsSubtract(a, b, r);
      return r;
    },
  },
  and: { number: 4, writes: true, compute: (m, a, b) => logic(m, a.and(b)) },
  sub: { number: 5, writes: true, compute: subtract },
  xor: { number: 6, writes: true, compute: (m, a, b) => logic(m, a.xor(b)) },
  cmp: { number: 7, writes: false, compute: subtract },
};

function logic(m: Meaning, value: I64): I64 {
  const r = m.f.tmp(value);
  m.flagsLogic(r);
  return r;
}

function subtract(m: Meaning, a: I64, b: I64, bytes: number): I64 {
  const r = m.f.tmp(signExtend(a.sub(b), bytes));
  m.flagsSubtract(a, b, r);
  return r;
}

/** dst := dst op src, in the order: read, compute, write, flags. */
function binary(name: string): (m: Meaning) => void {
  const { writes, compute } = BINARY[name] as (typeof BINARY)[string];
  return (m) => {
    const bytes = m.bytes(0);
    const a = writes ? m.update(0) : m.read(0);
    const b = m.read(1);
    const r = compute(m, a, b, bytes);
    if (writes) m.write(0, r);
  };
}

function test(m: Meaning): void {
  const a = m.read(0);
  logic(m, a.and(m.read(1)));
}

function increment(delta: bigint): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const a = m.update(0);
    const r = m.f.tmp(signExtend(a.add(delta), bytes));
    m.write(0, r);
    const most = BigInt.asIntN(64, delta > 0n ? -(1n << BigInt(bytes * 8 - 1)) : (1n << BigInt(bytes * 8 - 1)) - 1n);
    m.setFlags({ overflow: r.eq(most), adjust: a.xor(r).toI32().shrU(4).and(1), result: r });
  };
}

function negate(m: Meaning): void {
  const bytes = m.bytes(0);
  const a = m.update(0);
  const r = m.f.tmp(signExtend(a.neg(), bytes));
  m.write(0, r);
  m.flagsSubtract(i64(0n), a, r);
}

const ACCUMULATOR = 0;
const DATA = 2;

/** One-operand MUL and IMUL: product of the accumulator in AX or (R|E)DX:(R|E)AX. */
function multiply(signed: boolean): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const a = m.register(ACCUMULATOR, bytes, !signed);
    const b = signed ? m.read(0) : m.readUnsigned(0);
    const low = m.f.tmp(a.mul(b));
    let lost: I32;
    if (bytes === 8) {
      let high = m.f.call(m.runtime.multiplyHigh, a, b);
      if (signed) high = high.sub(a.shrS(63n).and(b)).sub(b.shrS(63n).and(a));
      const top = m.f.tmp(high);
      m.setRegister(ACCUMULATOR, 8, low);
      m.setRegister(DATA, 8, top);
      lost = signed ? top.ne(low.shrS(63n)) : top.ne(0n);
    } else {
      const bits = BigInt(bytes * 8);
      if (bytes === 1) m.setRegister(ACCUMULATOR, 2, low);
      else {
        m.setRegister(ACCUMULATOR, bytes, low);
        m.setRegister(DATA, bytes, low.shrU(bits));
      }
      lost = signed ? signExtend(low, bytes).ne(low) : low.shrU(bits).ne(0n);
    }
    const flag = m.f.tmp(lost);
    m.setFlags({ carry: flag, overflow: flag, adjust: i32(0), result: signExtend(low, bytes) });
  };
}

/** IMUL r, r/m and IMUL r, r/m, imm. */
function multiplyInto(m: Meaning, a: I64, b: I64): void {
  const bytes = m.size;
  const low = m.f.tmp(a.mul(b));
  const result = m.f.tmp(signExtend(low, bytes));
  let lost: I32;
  if (bytes === 8) {
    const high = m.f.call(m.runtime.multiplyHigh, a, b).sub(a.shrS(63n).and(b)).sub(b.shrS(63n).and(a));
    lost = high.ne(low.shrS(63n));
  } else lost = result.ne(low);
  const flag = m.f.tmp(lost);
  m.write(0, result);
  m.setFlags({ carry: flag, overflow: flag, adjust: i32(0), result });
}

const DIVIDE_ERROR = 0;

function divideUnsigned(m: Meaning): void {
  const bytes = m.bytes(0);
  const { f } = m;
  const d = m.readUnsigned(0);
  m.raiseIf(d.eqz(), DIVIDE_ERROR);
  if (bytes === 8) {
    const low = m.register(ACCUMULATOR, 8);
    const high = m.register(DATA, 8);
    f.if(
      high.eqz(),
      () => {
        m.setRegister(ACCUMULATOR, 8, low.divU(d));
        m.setRegister(DATA, 8, low.remU(d));
      },
      () => {
        m.raiseIf(high.geU(d), DIVIDE_ERROR);
        m.setRegister(ACCUMULATOR, 8, f.call(m.runtime.divide128, high, low, d));
        m.setRegister(DATA, 8, load.i64(i32(LOCAL.SCRATCH)));
      },
    );
    return;
  }
  const bits = BigInt(bytes * 8);
  const dividend =
    bytes === 1
      ? m.register(ACCUMULATOR, 2, true)
      : f.tmp(
          m
            .register(DATA, bytes, true)
            .shl(bits)
            .or(m.register(ACCUMULATOR, bytes, true)),
        );
  const quotient = f.tmp(dividend.divU(d));
  m.raiseIf(quotient.shrU(bits).ne(0n), DIVIDE_ERROR);
  const rest = f.tmp(dividend.remU(d));
  setQuotient(m, bytes, quotient, rest);
}

function setQuotient(m: Meaning, bytes: number, quotient: I64, rest: I64): void {
  if (bytes === 1) m.setRegister(ACCUMULATOR, 2, quotient.and(0xffn).or(rest.and(0xffn).shl(8n)));
  else {
    m.setRegister(ACCUMULATOR, bytes, quotient);
    m.setRegister(DATA, bytes, rest);
  }
}

function divideSigned(m: Meaning): void {
  const bytes = m.bytes(0);
  const { f } = m;
  const d = m.read(0);
  m.raiseIf(d.eqz(), DIVIDE_ERROR);
  if (bytes === 8) {
    divideSigned128(m, d);
    return;
  }
  const bits = BigInt(bytes * 8);
  const dividend =
    bytes === 1
      ? m.register(ACCUMULATOR, 2)
      : f.tmp(
          m
            .register(DATA, bytes)
            .shl(bits)
            .or(m.register(ACCUMULATOR, bytes, true)),
        );
  const quotient = f.temporary("i64");
  const rest = f.temporary("i64");
  // The most negative dividend by -1 would trap in WebAssembly; negation gives what the range check then refuses.
  f.if(
    d.eq(-1n),
    () => {
      f.set(quotient, dividend.neg());
      f.set(rest, i64(0n));
    },
    () => {
      f.set(quotient, dividend.divS(d));
      f.set(rest, dividend.remS(d));
    },
  );
  m.raiseIf(
    signExtend(quotient.get, bytes)
      .ne(quotient.get)
      .or(d.eq(-1n).and(dividend.eq(-(1n << 63n)))),
    DIVIDE_ERROR,
  );
  setQuotient(m, bytes, quotient.get, rest.get);
}

function divideSigned128(m: Meaning, d: I64): void {
  const { f } = m;
  const low = m.register(ACCUMULATOR, 8);
  const high = m.register(DATA, 8);
  const quotient = f.temporary("i64");
  const rest = f.temporary("i64");
  f.if(
    high.eq(low.shrS(63n)).and(d.ne(-1n)),
    () => {
      f.set(quotient, low.divS(d));
      f.set(rest, low.remS(d));
    },
    () => {
      const negative = f.tmp(high.shrS(63n));
      const sign = f.tmp(d.shrS(63n));
      const magnitude = f.tmp(d.xor(sign).sub(sign));
      const l = f.tmp(low.xor(negative).sub(negative));
      const h = f.tmp(high.xor(negative).add(negative.ne(0n).and(low.eqz()).toI64U()));
      m.raiseIf(h.geU(magnitude), DIVIDE_ERROR);
      const q = f.tmp(f.call(m.runtime.divide128, h, l, magnitude));
      const different = f.tmp(negative.xor(sign));
      f.set(quotient, q.xor(different).sub(different));
      // The quotient fits if its sign is the expected one (or it is zero).
      m.raiseIf(q.ne(0n).and(quotient.get.shrS(63n).ne(different)), DIVIDE_ERROR);
      f.set(rest, load.i64(i32(LOCAL.SCRATCH)).xor(negative).sub(negative));
    },
  );
  setQuotient(m, 8, quotient.get, rest.get);
}

/** AAA and AAS. */
function asciiAdjust(direction: bigint): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    const ax = m.register(ACCUMULATOR, 2, true);
    const flags = m.flagBits();
    const adjust = f.tmp(ax.and(15n).gtU(9n).or(flags.toI32().shrU(4).and(1)));
    const moved = ax.add(adjust.select(i64(direction * 0x106n), i64(0n)));
    const r = f.tmp(moved.and(0xff0fn));
    m.setRegister(ACCUMULATOR, 2, r);
    m.setFlags({ carry: adjust, adjust, overflow: i32(0), result: r.extend8S() });
  };
}

/** DAA and DAS. */
function decimalAdjust(direction: bigint): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    const al = m.register(ACCUMULATOR, 1, true);
    const flags = m.flagBits();
    const lowAdjust = f.tmp(al.and(15n).gtU(9n).or(flags.toI32().shrU(4).and(1)));
    const highAdjust = f.tmp(al.gtU(0x99n).or(flags.toI32().and(1)));
    const first = f.tmp(al.add(lowAdjust.select(i64(direction * 6n), i64(0n))));
    const r = f.tmp(first.add(highAdjust.select(i64(direction * 0x60n), i64(0n))).extend8S());
    const borrow = direction < 0n ? lowAdjust.and(al.ltU(6n)) : i32(0);
    const carry = f.tmp(highAdjust.or(borrow));
    m.setRegister(ACCUMULATOR, 1, r);
    m.setFlags({ carry, adjust: lowAdjust, overflow: i32(0), result: r });
  };
}

function aam(m: Meaning): void {
  const base = m.f.tmp(m.immediate().and(0xffn));
  m.raiseIf(base.eqz(), DIVIDE_ERROR);
  const al = m.register(ACCUMULATOR, 1, true);
  const r = m.f.tmp(al.divU(base).shl(8n).or(al.remU(base)));
  m.setRegister(ACCUMULATOR, 2, r);
  m.setFlags({ carry: i32(0), overflow: i32(0), adjust: i32(0), result: r.extend8S() });
}

function aad(m: Meaning): void {
  const ax = m.register(ACCUMULATOR, 2, true);
  const r = m.f.tmp(ax.shrU(8n).mul(m.immediate().and(0xffn)).add(ax).and(0xffn));
  m.setRegister(ACCUMULATOR, 2, r);
  m.setFlags({ carry: i32(0), overflow: i32(0), adjust: i32(0), result: r.extend8S() });
}

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, "0");
const WIDE = [4, 8] as const;
const BYTE = [1] as const;

function binaryRows(): IsaRow[] {
  return Object.entries(BINARY).flatMap(([mnemonic, { number, writes }]) => {
    const meaning = binary(mnemonic);
    const base = number * 8;
    const lock = writes;
    const warm = mnemonic !== "adc" && mnemonic !== "sbb";
    const hot = warm || mnemonic === "adc" ? { hot: WIDE } : {};
    const hotByte = ["cmp", "and", "or", "xor", "add", "sub"].includes(mnemonic) ? { hot: BYTE } : {};
    const imm = number;
    return [
      { mnemonic, opcode: hex(base), operands: "Eb,Gb", meaning, lock, ...hotByte },
      { mnemonic, opcode: hex(base + 1), operands: "Ev,Gv", meaning, lock, ...hot },
      { mnemonic, opcode: hex(base + 2), operands: "Gb,Eb", meaning, ...hotByte },
      { mnemonic, opcode: hex(base + 3), operands: "Gv,Ev", meaning, ...hot },
      { mnemonic, opcode: hex(base + 4), operands: "AL,Ib", meaning, ...hotByte },
      { mnemonic, opcode: hex(base + 5), operands: "rAX,Iz", meaning, ...hot },
      { mnemonic, opcode: `80 /${imm}`, operands: "Eb,Ib", meaning, lock, ...hotByte },
      { mnemonic, opcode: `82 /${imm}`, operands: "Eb,Ib", meaning, lock, only: "legacy" as const },
      { mnemonic, opcode: `81 /${imm}`, operands: "Ev,Iz", meaning, lock, ...hot },
      { mnemonic, opcode: `83 /${imm}`, operands: "Ev,sIb", meaning, lock, ...hot },
    ];
  });
}

export const arithmeticRows: readonly IsaRow[] = [
  ...binaryRows(),
  { mnemonic: "test", opcode: "84", operands: "Eb,Gb", meaning: test, hot: BYTE },
  { mnemonic: "test", opcode: "85", operands: "Ev,Gv", meaning: test, hot: WIDE },
  { mnemonic: "test", opcode: "A8", operands: "AL,Ib", meaning: test, hot: BYTE },
  { mnemonic: "test", opcode: "A9", operands: "rAX,Iz", meaning: test, hot: WIDE },
  { mnemonic: "test", opcode: "F6 /0", operands: "Eb,Ib", meaning: test, hot: BYTE },
  { mnemonic: "test", opcode: "F6 /1", operands: "Eb,Ib", meaning: test },
  { mnemonic: "test", opcode: "F7 /0", operands: "Ev,Iz", meaning: test, hot: WIDE },
  { mnemonic: "test", opcode: "F7 /1", operands: "Ev,Iz", meaning: test },
  { mnemonic: "not", opcode: "F6 /2", operands: "Eb", meaning: (m) => m.write(0, m.update(0).not()), lock: true },
  {
    mnemonic: "not",
    opcode: "F7 /2",
    operands: "Ev",
    meaning: (m) => m.write(0, m.update(0).not()),
    lock: true,
    hot: WIDE,
  },
  { mnemonic: "neg", opcode: "F6 /3", operands: "Eb", meaning: negate, lock: true },
  { mnemonic: "neg", opcode: "F7 /3", operands: "Ev", meaning: negate, lock: true, hot: WIDE },
  { mnemonic: "mul", opcode: "F6 /4", operands: "Eb", meaning: multiply(false) },
  { mnemonic: "mul", opcode: "F7 /4", operands: "Ev", meaning: multiply(false), hot: [8] },
  { mnemonic: "imul", opcode: "F6 /5", operands: "Eb", meaning: multiply(true) },
  { mnemonic: "imul", opcode: "F7 /5", operands: "Ev", meaning: multiply(true) },
  { mnemonic: "div", opcode: "F6 /6", operands: "Eb", meaning: divideUnsigned },
  { mnemonic: "div", opcode: "F7 /6", operands: "Ev", meaning: divideUnsigned },
  { mnemonic: "idiv", opcode: "F6 /7", operands: "Eb", meaning: divideSigned },
  { mnemonic: "idiv", opcode: "F7 /7", operands: "Ev", meaning: divideSigned },
  {
    mnemonic: "imul",
    opcode: "0F AF",
    operands: "Gv,Ev",
    meaning: (m) => multiplyInto(m, m.read(0), m.read(1)),
    hot: WIDE,
  },
  {
    mnemonic: "imul",
    opcode: "69",
    operands: "Gv,Ev,Iz",
    meaning: (m) => multiplyInto(m, m.read(1), m.read(2)),
    hot: WIDE,
  },
  {
    mnemonic: "imul",
    opcode: "6B",
    operands: "Gv,Ev,sIb",
    meaning: (m) => multiplyInto(m, m.read(1), m.read(2)),
    hot: WIDE,
  },
  { mnemonic: "inc", opcode: "FE /0", operands: "Eb", meaning: increment(1n), lock: true },
  { mnemonic: "dec", opcode: "FE /1", operands: "Eb", meaning: increment(-1n), lock: true },
  { mnemonic: "inc", opcode: "FF /0", operands: "Ev", meaning: increment(1n), lock: true, hot: WIDE },
  { mnemonic: "dec", opcode: "FF /1", operands: "Ev", meaning: increment(-1n), lock: true, hot: WIDE },
  { mnemonic: "inc", opcode: "40+r", operands: "Zv", meaning: increment(1n), only: "legacy" },
  { mnemonic: "dec", opcode: "48+r", operands: "Zv", meaning: increment(-1n), only: "legacy" },
  { mnemonic: "daa", opcode: "27", operands: "", meaning: decimalAdjust(1n), only: "legacy" },
  { mnemonic: "das", opcode: "2F", operands: "", meaning: decimalAdjust(-1n), only: "legacy" },
  { mnemonic: "aaa", opcode: "37", operands: "", meaning: asciiAdjust(1n), only: "legacy" },
  { mnemonic: "aas", opcode: "3F", operands: "", meaning: asciiAdjust(-1n), only: "legacy" },
  { mnemonic: "aam", opcode: "D4", operands: "Ib", meaning: aam, only: "legacy" },
  { mnemonic: "aad", opcode: "D5", operands: "Ib", meaning: aad, only: "legacy" },
];
