import { type I64, i64, load, store } from "../../wasm/expression.js";
import { signExtend, zeroExtend } from "./arithmetic.js";
import { CONDITION, type Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const WIDE = [4, 8] as const;
const BYTE = [1] as const;

const move = (m: Meaning): void => m.write(0, m.read(1));
const moveUnsigned = (m: Meaning): void => m.write(0, m.readUnsigned(1));

function exchange(m: Meaning): void {
  const a = m.update(0);
  const b = m.read(1);
  m.write(0, b);
  m.write(1, a);
}

function exchangeAdd(m: Meaning): void {
  const a = m.update(0);
  const b = m.read(1);
  const s = m.f.tmp(signExtend(a.add(b), m.bytes(0)));
  m.flagsAdd(a, b, s);
  // With both operands the same register the sum wins; a memory operand is written before a register changes.
  if (m.memory) {
    m.write(0, s);
    m.write(1, a);
  } else {
    m.write(1, a);
    m.write(0, s);
  }
}

function compareExchange(m: Meaning): void {
  const bytes = m.bytes(0);
  const { f } = m;
  const destination = m.update(0);
  const source = m.read(1);
  const accumulator = m.register(0, bytes);
  const difference = f.tmp(signExtend(accumulator.sub(destination), bytes));
  m.flagsSubtract(accumulator, destination, difference);
  f.if(
    difference.eqz(),
    () => m.write(0, source),
    () => {
      if (m.memory) m.write(0, destination);
      m.setRegister(0, bytes, destination);
    },
  );
}

/** CMPXCHG8B and CMPXCHG16B. The memory operand is written in any case. */
function compareExchangePair(m: Meaning): void {
  const bytes = m.size === 8 ? 8 : 4;
  const { f } = m;
  const address = m.linear();
  if (bytes === 8) m.raiseIf(address.and(15n).ne(0n), 13, 0);
  const target = m.writeAddress(address, 2 * bytes);
  const read = (offset: number): I64 => f.tmp(bytes === 8 ? load.i64(target, offset) : load.i64_32S(target, offset));
  const write = (value: I64, offset: number): void =>
    f.emit(bytes === 8 ? store.i64(target, value, offset) : store.i64_32(target, value, offset));
  const low = read(0);
  const high = read(bytes);
  const equal = f.tmp(low.eq(m.register(0, bytes)).and(high.eq(m.register(2, bytes))));
  f.if(equal, () => {
    write(m.register(3, bytes), 0);
    write(m.register(1, bytes), bytes);
  });
  m.finishWrite(target);
  f.if(equal.eqz(), () => {
    m.setRegister(0, bytes, low);
    m.setRegister(2, bytes, high);
  });
  m.setFlagBits(m.flagBits().and(~0x40n).or(equal.toI64U().shl(6n)));
}

function byteSwap(m: Meaning): void {
  const value = m.readUnsigned(0);
  m.write(0, swapped(m, value, m.size));
}

function swapped(m: Meaning, value: ReturnType<Meaning["read"]>, bytes: number): ReturnType<Meaning["read"]> {
  let result = i64(0n);
  for (let n = 0; n < bytes; n++) {
    const part = value.shrU(BigInt(8 * n)).and(0xffn);
    result = n === 0 ? part.shl(BigInt(8 * (bytes - 1))) : result.or(part.shl(BigInt(8 * (bytes - 1 - n))));
  }
  return m.f.tmp(signExtend(result, bytes));
}

/** CBW, CWDE, CDQE. */
function convertAccumulator(m: Meaning): void {
  m.setRegister(0, m.size, m.register(0, m.size / 2));
}

/** CWD, CDQ, CQO. */
function spreadSign(m: Meaning): void {
  m.setRegister(2, m.size, m.register(0, m.size).shrS(63n));
}

function translate(m: Meaning): void {
  // The record's memory operand is [rBX] with its segment.
  const value = m.load(m.linearAt(m.register(0, 1, true)), 1, true);
  m.setRegister(0, 1, value);
}

function conditionalMove(n: number): (m: Meaning) => void {
  const code = CONDITION[n] as (typeof CONDITION)[number];
  return (m) => {
    const source = m.read(1);
    const old = m.read(0);
    m.write(0, m.condition(code).select(source, old));
  };
}

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, "0");

export const moveRows: readonly IsaRow[] = [
  { mnemonic: "mov", opcode: "88", operands: "Eb,Gb", meaning: move, hot: BYTE },
  { mnemonic: "mov", opcode: "89", operands: "Ev,Gv", meaning: move, hot: [2, 4, 8] },
  { mnemonic: "mov", opcode: "8A", operands: "Gb,Eb", meaning: move, hot: BYTE },
  { mnemonic: "mov", opcode: "8B", operands: "Gv,Ev", meaning: move, hot: [2, 4, 8] },
  { mnemonic: "mov", opcode: "A0", operands: "AL,Ob", meaning: move },
  { mnemonic: "mov", opcode: "A1", operands: "rAX,Ov", meaning: move },
  { mnemonic: "mov", opcode: "A2", operands: "Ob,AL", meaning: move },
  { mnemonic: "mov", opcode: "A3", operands: "Ov,rAX", meaning: move },
  { mnemonic: "mov", opcode: "B0+r", operands: "Zb,Ib", meaning: move, hot: BYTE },
  { mnemonic: "mov", opcode: "B8+r", operands: "Zv,Iv", meaning: move, hot: WIDE },
  { mnemonic: "mov", opcode: "C6 /0", operands: "Eb,Ib", meaning: move, hot: BYTE },
  { mnemonic: "mov", opcode: "C7 /0", operands: "Ev,Iz", meaning: move, hot: [2, 4, 8] },
  { mnemonic: "movzx", opcode: "0F B6", operands: "Gv,Eb", meaning: moveUnsigned, hot: WIDE },
  { mnemonic: "movzx", opcode: "0F B7", operands: "Gv,Ew", meaning: moveUnsigned, hot: WIDE },
  { mnemonic: "movsx", opcode: "0F BE", operands: "Gv,Eb", meaning: move, hot: WIDE },
  { mnemonic: "movsx", opcode: "0F BF", operands: "Gv,Ew", meaning: move, hot: WIDE },
  { mnemonic: "movsxd", opcode: "63", operands: "Gv,Ed", meaning: move, only: "64", hot: [8] },
  { mnemonic: "mov", opcode: "8C", operands: "Rv,Sw", meaning: moveUnsigned },
  { mnemonic: "mov", opcode: "8C", operands: "Mw,Sw", meaning: moveUnsigned },
  { mnemonic: "lea", opcode: "8D", operands: "Gv,M", meaning: (m) => m.write(0, m.offset()), hot: WIDE },
  { mnemonic: "xchg", opcode: "86", operands: "Eb,Gb", meaning: exchange, lock: true },
  { mnemonic: "xchg", opcode: "87", operands: "Ev,Gv", meaning: exchange, lock: true, hot: WIDE },
  { mnemonic: "xchg", opcode: "90+r", operands: "Zv,rAX", meaning: exchange },
  { mnemonic: "xadd", opcode: "0F C0", operands: "Eb,Gb", meaning: exchangeAdd, lock: true },
  { mnemonic: "xadd", opcode: "0F C1", operands: "Ev,Gv", meaning: exchangeAdd, lock: true },
  { mnemonic: "cmpxchg", opcode: "0F B0", operands: "Eb,Gb", meaning: compareExchange, lock: true },
  { mnemonic: "cmpxchg", opcode: "0F B1", operands: "Ev,Gv", meaning: compareExchange, lock: true },
  { mnemonic: "cmpxchg8b", opcode: "0F C7 /1", operands: "M", meaning: compareExchangePair, lock: true, sized: true },
  { mnemonic: "bswap", opcode: "0F C8+r", operands: "Zy", meaning: byteSwap },
  {
    mnemonic: "movbe",
    opcode: "0F 38 F0",
    operands: "Gv,Mv",
    meaning: (m) => m.write(0, swapped(m, m.readUnsigned(1), m.size)),
    feature: "MOVBE",
  },
  {
    mnemonic: "movbe",
    opcode: "0F 38 F1",
    operands: "Mv,Gv",
    meaning: (m) => m.write(0, swapped(m, m.readUnsigned(1), m.size)),
    feature: "MOVBE",
  },
  { mnemonic: "movnti", opcode: "NP 0F C3", operands: "My,Gy", meaning: move, feature: "SSE2" },
  { mnemonic: "movdiri", opcode: "NP 0F 38 F9", operands: "My,Gy", meaning: move, feature: "MOVDIRI" },
  { mnemonic: "cbw", opcode: "98", operands: "", meaning: convertAccumulator, sized: true, hot: WIDE },
  { mnemonic: "cwd", opcode: "99", operands: "", meaning: spreadSign, sized: true, hot: WIDE },
  { mnemonic: "xlat", opcode: "D7", operands: "", meaning: translate },
  { mnemonic: "lahf", opcode: "9F", operands: "", meaning: (m) => storeHigh(m) },
  { mnemonic: "sahf", opcode: "9E", operands: "", meaning: (m) => loadHigh(m) },
  ...CONDITION.map(
    (code, n): IsaRow => ({
      mnemonic: `cmov${code}`,
      opcode: `0F ${hex(0x40 + n)}`,
      operands: "Gv,Ev",
      meaning: conditionalMove(n),
      hot: WIDE,
    }),
  ),
  ...CONDITION.map(
    (code, n): IsaRow => ({
      mnemonic: `set${code}`,
      opcode: `0F ${hex(0x90 + n)}`,
      operands: "Eb",
      meaning: (m) => m.write(0, m.condition(code).toI64U()),
      hot: BYTE,
    }),
  ),
];

/** LAHF: AH := SF ZF 0 AF 0 PF 1 CF. */
function storeHigh(m: Meaning): void {
  const ax = m.register(0, 2, true);
  m.setRegister(0, 2, zeroExtend(ax, 1).or(m.flagBits().and(0xd5n).or(2n).shl(8n)));
}

function loadHigh(m: Meaning): void {
  const ax = m.register(0, 2, true);
  const flags = m.flagBits();
  m.setFlagBits(flags.and(~0xd5n).or(ax.shrU(8n).and(0xd5n)));
}
