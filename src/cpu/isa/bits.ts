import { type I64, i32, i64 } from "../../wasm/expression.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const WIDE = [4, 8] as const;

type BitChange = "none" | "set" | "reset" | "complement";

/** BT, BTS, BTR, BTC. With a register offset a memory operand is a bit string that reaches beyond the operand. */
function bitTest(change: BitChange, immediateOffset: boolean): (m: Meaning) => void {
  return (m) => {
    const bytes = m.bytes(0);
    const bits = BigInt(bytes * 8);
    const { f } = m;
    const offset = m.read(1);
    const position = f.tmp(offset.and(bits - 1n));
    const inString = m.memory && !immediateOffset;
    let value: I64;
    if (inString) {
      const address = m.linearAt(offset.shrS(BigInt(Math.log2(bytes * 8))).mul(BigInt(bytes)));
      value = change === "none" ? m.load(address, bytes) : m.loadForUpdate(address, bytes);
    } else value = change === "none" ? m.read(0) : m.update(0);
    const mask = f.tmp(i64(1n).shl(position));
    const carry = f.tmp(value.and(mask).ne(0n));
    if (change !== "none") {
      const changed = change === "set" ? value.or(mask) : change === "reset" ? value.and(mask.not()) : value.xor(mask);
      if (inString) m.storeBack(bytes, changed);
      else m.write(0, changed);
    }
    m.setFlags({ carry });
  };
}

/** BSF and BSR: with a zero source the destination keeps its value. */
function bitScan(forward: boolean): (m: Meaning) => void {
  return (m) => {
    const value = m.readUnsigned(1);
    m.f.if(value.ne(0n), () => m.write(0, forward ? value.ctz() : i64(63n).sub(value.clz())));
    m.setFlags({ carry: i32(0), overflow: i32(0), adjust: i32(0), result: value });
  };
}

function leadingZeros(m: Meaning): void {
  const bits = BigInt(m.size * 8);
  const value = m.readUnsigned(1);
  const r = m.f.tmp(value.clz().sub(64n - bits));
  m.write(0, r);
  m.setFlags({ carry: value.eqz(), overflow: i32(0), adjust: i32(0), result: r });
}

function populationCount(m: Meaning): void {
  const r = m.f.tmp(m.readUnsigned(1).popcnt());
  m.write(0, r);
  m.flagsLogic(r);
  // PF is cleared, not computed from the count.
  const flags = m.flagBits();
  m.setFlagBits(flags.and(0x40n));
}

/** CRC32 with polynomial 0x11EDC6F41, bit by bit, reflected. */
function crc32(m: Meaning): void {
  const bytes = m.bytes(1);
  const { f } = m;
  const crc = f.temporary("i64");
  const count = f.temporary("i32");
  const data = m.readUnsigned(1);
  f.set(crc, m.readUnsigned(0).and(0xffff_ffffn).xor(data));
  f.set(count, i32(bytes * 8));
  // The data is at most as wide as 64 bits: bits above the CRC move down into it as it shifts.
  f.loop((again) => {
    f.set(crc, crc.get.shrU(1n).xor(crc.get.and(1n).neg().and(0x82f6_3b78n)));
    f.set(count, count.get.sub(1));
    f.brIf(again, count.get);
  });
  m.write(0, crc.get.and(0xffff_ffffn));
}

const CHANGES: readonly {
  readonly mnemonic: string;
  readonly change: BitChange;
  readonly opcode: string;
  readonly group: number;
}[] = [
  { mnemonic: "bt", change: "none", opcode: "A3", group: 4 },
  { mnemonic: "bts", change: "set", opcode: "AB", group: 5 },
  { mnemonic: "btr", change: "reset", opcode: "B3", group: 6 },
  { mnemonic: "btc", change: "complement", opcode: "BB", group: 7 },
];

export const bitRows: readonly IsaRow[] = [
  ...CHANGES.flatMap(({ mnemonic, change, opcode, group }): IsaRow[] => {
    const lock = change !== "none";
    const hot = change === "none" ? { hot: WIDE } : {};
    return [
      { mnemonic, opcode: `0F ${opcode}`, operands: "Ev,Gv", meaning: bitTest(change, false), lock, ...hot },
      { mnemonic, opcode: `0F BA /${group}`, operands: "Ev,Ib", meaning: bitTest(change, true), lock, ...hot },
    ];
  }),
  { mnemonic: "bsf", opcode: "0F BC", operands: "Gv,Ev", meaning: bitScan(true) },
  { mnemonic: "bsr", opcode: "0F BD", operands: "Gv,Ev", meaning: bitScan(false) },
  { mnemonic: "lzcnt", opcode: "F3 0F BD", operands: "Gv,Ev", meaning: leadingZeros, feature: "LZCNT" },
  { mnemonic: "popcnt", opcode: "F3 0F B8", operands: "Gv,Ev", meaning: populationCount, feature: "POPCNT" },
  { mnemonic: "crc32", opcode: "F2 0F 38 F0", operands: "Gy,Eb", meaning: crc32, feature: "SSE4_2" },
  { mnemonic: "crc32", opcode: "F2 0F 38 F1", operands: "Gy,Ev", meaning: crc32, feature: "SSE4_2" },
];
