import { i32, i64, load, store } from "../../wasm/expression.js";
import { FPU_TRAP, LOCAL, REG } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

/** Control instructions of the x87: they do not compute. The forms with a leading WAIT are FWAIT and the form without. */

const NM = 7;
const MF = 16;
const STATUS_EXCEPTIONS = 0x80ff;
/** Exception flags, and ES and B, which follow from them. */
const FCW_INIT = 0x37f;
const FTW_EMPTY = 0xffff;
/** Masks, precision, rounding and infinity control; bit 6 reads as 1, the rest as 0. */
const FCW_WRITABLE = 0x1f3f;

const word = (address: number): ReturnType<typeof load.i32_16U> => load.i32_16U(i32(address));
const setWord = (m: Meaning, address: number, value: ReturnType<typeof i32>): void =>
  m.f.emit(store.i32_16(i32(address), value));

/** #NM if x87 is switched off; pending errors do not matter to these. */
function requireDevice(m: Meaning): void {
  m.raiseIf(load.i32(i32(LOCAL.FPU_TRAPS)).and(FPU_TRAP.X87_NM), NM);
}

function initialise(m: Meaning): void {
  requireDevice(m);
  setWord(m, REG.FCW, i32(FCW_INIT));
  setWord(m, REG.FSW, i32(0));
  setWord(m, REG.FTW, i32(FTW_EMPTY));
  setWord(m, REG.FOP, i32(0));
  m.f.emit(store.i64(i32(REG.FIP), i64(0n)));
  m.f.emit(store.i64(i32(REG.FDP), i64(0n)));
}

function clearExceptions(m: Meaning): void {
  requireDevice(m);
  setWord(m, REG.FSW, word(REG.FSW).and(~STATUS_EXCEPTIONS));
}

function storeWord(address: number): (m: Meaning) => void {
  return (m) => {
    requireDevice(m);
    m.write(0, word(address).toI64U());
  };
}

/** FLDCW: a newly unmasked pending exception sets ES and B. */
function loadControl(m: Meaning): void {
  m.requireX87();
  const value = m.f.tmp(m.readUnsigned(0).toI32().and(FCW_WRITABLE).or(0x40));
  setWord(m, REG.FCW, value);
  const status = m.f.tmp(word(REG.FSW));
  const pending = status.and(value.xor(-1)).and(0x3f).ne(0);
  setWord(m, REG.FSW, pending.select(status.or(0x8080), status.and(~0x8080)));
}

function wait(m: Meaning): void {
  m.raiseIf(load.i32(i32(LOCAL.FPU_TRAPS)).and(FPU_TRAP.WAIT_NM), NM);
  m.raiseIf(word(REG.FSW).and(0x80), MF);
}

export const x87ControlRows: readonly IsaRow[] = [
  { mnemonic: "fwait", opcode: "9B", operands: "", meaning: wait },
  { mnemonic: "fninit", opcode: "DB =E3", operands: "", meaning: initialise },
  { mnemonic: "fnclex", opcode: "DB =E2", operands: "", meaning: clearExceptions },
  // What the 8087 and 80287 needed; nothing since.
  { mnemonic: "fneni", opcode: "DB =E0", operands: "", meaning: requireDevice },
  { mnemonic: "fndisi", opcode: "DB =E1", operands: "", meaning: requireDevice },
  { mnemonic: "fnsetpm", opcode: "DB =E4", operands: "", meaning: requireDevice },
  { mnemonic: "fldcw", opcode: "D9 /5", operands: "Mw", meaning: loadControl },
  { mnemonic: "fnstcw", opcode: "D9 /7", operands: "Mw", meaning: storeWord(REG.FCW) },
  { mnemonic: "fnstsw", opcode: "DD /7", operands: "Mw", meaning: storeWord(REG.FSW) },
  { mnemonic: "fnstsw", opcode: "DF =E0", operands: "AX", meaning: storeWord(REG.FSW) },
];
