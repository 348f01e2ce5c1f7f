import { type I64, i32, i64, load, store } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import { zeroExtend } from "./arithmetic.js";
import { CONDITION, type Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const NEAR = { default64: true, force64: true, stack: true, sized: true, ends: true } as const;
const RCX = 1;

function jumpIndirect(m: Meaning): void {
  const target = m.readUnsigned(0);
  m.checkTarget(target);
  m.jump(target);
}

function call(m: Meaning): void {
  m.push(m.nextRip(), m.size);
  m.branch();
}

function callIndirect(m: Meaning): void {
  const target = m.readUnsigned(0);
  m.checkTarget(target);
  m.push(m.nextRip(), m.size);
  m.jump(target);
}

function returnNear(withImmediate: boolean): (m: Meaning) => void {
  return (m) => {
    const target = m.load(m.stackTop(), m.size, true);
    m.checkTarget(target);
    if (withImmediate) m.addStack(m.immediate().and(0xffffn).add(BigInt(m.size)));
    else m.addStack(m.size);
    m.jump(target);
  };
}

/** LOOP, LOOPE, LOOPNE: the counter is as wide as the address size. */
function loop(code: "e" | "ne" | null): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    const count = f.tmp(zeroExtend(m.register(RCX, m.addressSize, true).sub(1n), m.addressSize));
    m.setRegister(RCX, m.addressSize, count);
    const more = count.ne(0n);
    m.branchIf(code === null ? more : more.and(m.condition(code)));
  };
}

function flagWord(m: Meaning): I64 {
  return m.f.tmp(load.i64(i32(REG.FLAGS)));
}

function setDirection(value: bigint): (m: Meaning) => void {
  return (m) => m.f.emit(store.i64(i32(REG.FLAGS), flagWord(m).and(~0x400n).or(value)));
}

/** CLFLUSH, CLFLUSHOPT, CLWB: memory is coherent here, the access check remains. */
function flushLine(m: Meaning): void {
  m.load(m.linear(), 1);
}

const IF = 0x200n;

/** #GP(0) if the CPL is above IOPL. */
function requireIopl(m: Meaning, flags: I64): void {
  const iopl = flags.shrU(12n).toI32().and(3);
  m.raiseIf(load.i32(i32(REG.CPL)).gtU(iopl), 13, 0);
}

function clearInterruptFlag(m: Meaning): void {
  const flags = flagWord(m);
  requireIopl(m, flags);
  m.f.emit(store.i64(i32(REG.FLAGS), flags.and(~IF)));
}

/** STI: interrupts that it lets in wait until the next instruction is done. */
function setInterruptFlag(m: Meaning): void {
  const flags = flagWord(m);
  requireIopl(m, flags);
  m.f.if(flags.and(IF).eqz(), () => {
    m.f.emit(store.i64(i32(REG.FLAGS), flags.or(IF)));
    m.shadowNext();
  });
}

const nothing = (): void => {};
const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, "0");

export const controlRows: readonly IsaRow[] = [
  ...CONDITION.flatMap((code, n): IsaRow[] => {
    const meaning = (m: Meaning): void => m.branchIf(m.condition(code));
    return [
      { mnemonic: `j${code}`, opcode: hex(0x70 + n), operands: "Jb", meaning, force64: true, sized: true, hot: [8] },
      {
        mnemonic: `j${code}`,
        opcode: `0F ${hex(0x80 + n)}`,
        operands: "Jz",
        meaning,
        force64: true,
        sized: true,
        hot: [8],
      },
    ];
  }),
  {
    mnemonic: "jmp",
    opcode: "EB",
    operands: "Jb",
    meaning: (m) => m.branch(),
    force64: true,
    sized: true,
    ends: true,
    hot: [8],
  },
  {
    mnemonic: "jmp",
    opcode: "E9",
    operands: "Jz",
    meaning: (m) => m.branch(),
    force64: true,
    sized: true,
    ends: true,
    hot: [8],
  },
  { mnemonic: "jmp", opcode: "FF /4", operands: "Ev", meaning: jumpIndirect, force64: true, ends: true, hot: [8] },
  { mnemonic: "call", opcode: "E8", operands: "Jz", meaning: call, ...NEAR, hot: [8] },
  { mnemonic: "call", opcode: "FF /2", operands: "Ev", meaning: callIndirect, ...NEAR, hot: [8] },
  { mnemonic: "ret", opcode: "C3", operands: "", meaning: returnNear(false), ...NEAR, hot: [8] },
  { mnemonic: "ret", opcode: "C2", operands: "Iw", meaning: returnNear(true), ...NEAR },
  {
    mnemonic: "loopne",
    opcode: "E0",
    operands: "Jb",
    meaning: loop("ne"),
    byAddressSize: true,
    force64: true,
    sized: true,
  },
  {
    mnemonic: "loope",
    opcode: "E1",
    operands: "Jb",
    meaning: loop("e"),
    byAddressSize: true,
    force64: true,
    sized: true,
  },
  {
    mnemonic: "loop",
    opcode: "E2",
    operands: "Jb",
    meaning: loop(null),
    byAddressSize: true,
    force64: true,
    sized: true,
  },
  {
    mnemonic: "jrcxz",
    opcode: "E3",
    operands: "Jb",
    meaning: (m) => m.branchIf(m.register(RCX, m.addressSize, true).eqz()),
    byAddressSize: true,
    force64: true,
    sized: true,
  },
  { mnemonic: "nop", opcode: "90", operands: "", meaning: nothing, nothing: true },
  { mnemonic: "pause", opcode: "F3 90", operands: "", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1F", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 18", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 19", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1A", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1B", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1C", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1D", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "nop", opcode: "0F 1E", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "prefetchw", opcode: "0F 0D", operands: "Ev", meaning: nothing, nothing: true },
  { mnemonic: "lfence", opcode: "NP 0F AE /5", operands: "R", meaning: nothing, nothing: true, feature: "SSE2" },
  { mnemonic: "mfence", opcode: "NP 0F AE /6", operands: "R", meaning: nothing, nothing: true, feature: "SSE2" },
  { mnemonic: "sfence", opcode: "NP 0F AE /7", operands: "R", meaning: nothing, nothing: true, feature: "SSE" },
  { mnemonic: "clflush", opcode: "NP 0F AE /7", operands: "Mb", meaning: flushLine, feature: "CLFSH" },
  { mnemonic: "clflushopt", opcode: "66 0F AE /7", operands: "Mb", meaning: flushLine, feature: "CLFLUSHOPT" },
  { mnemonic: "clwb", opcode: "66 0F AE /6", operands: "Mb", meaning: flushLine, feature: "CLWB" },
  { mnemonic: "cli", opcode: "FA", operands: "", meaning: clearInterruptFlag, hot: [4] },
  { mnemonic: "sti", opcode: "FB", operands: "", meaning: setInterruptFlag },
  { mnemonic: "clc", opcode: "F8", operands: "", meaning: (m) => m.setFlags({ carry: i32(0) }) },
  { mnemonic: "stc", opcode: "F9", operands: "", meaning: (m) => m.setFlags({ carry: i32(1) }) },
  { mnemonic: "cmc", opcode: "F5", operands: "", meaning: (m) => m.setFlags({ carry: m.condition("ae") }) },
  { mnemonic: "cld", opcode: "FC", operands: "", meaning: setDirection(0n) },
  { mnemonic: "std", opcode: "FD", operands: "", meaning: setDirection(0x400n) },
  {
    mnemonic: "salc",
    opcode: "D6",
    operands: "",
    meaning: (m) => m.setRegister(0, 1, m.condition("b").select(i64(-1n), i64(0n))),
    only: "legacy",
  },
];
