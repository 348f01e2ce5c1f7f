import { i32, i64, load } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const STACK = { default64: true, stack: true, sized: true } as const;
const RSP = 4;
const RBP = 5;

const push = (m: Meaning): void => m.push(m.read(0), m.size);

function pop(m: Meaning): void {
  const value = m.load(m.stackTop(), m.size);
  if (m.memory) {
    // The address is computed with RSP already moved; the decoder has put the move into the displacement.
    m.write(0, value);
    m.addStack(m.size);
  } else {
    m.addStack(m.size);
    m.write(0, value);
  }
}

function leave(m: Meaning, legacy: boolean): void {
  const frame = m.register(RBP, legacy ? 4 : 8, true);
  const value = m.load(frame, m.size);
  m.setRegister(RSP, legacy ? 4 : 8, frame.add(BigInt(m.size)));
  m.setRegister(RBP, m.size, value);
}

/** PUSHF: RF and VM read as zero. */
function pushFlags(m: Meaning): void {
  const image = load.i64(i32(REG.FLAGS)).and(~0x30000n).or(m.flagBits());
  m.push(m.f.tmp(image), m.size);
}

/** PUSHA and POPA, in the order AX CX DX BX SP BP SI DI. */
function pushAll(m: Meaning): void {
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => m.register(n, m.size));
  // Probing the far end first makes the eight stores all or nothing within one page.
  m.load(m.stackTop(-8 * m.size), m.size);
  for (const value of values) m.push(value, m.size);
}

function popAll(m: Meaning): void {
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => m.load(m.stackTop(n * m.size), m.size));
  m.addStack(8 * m.size);
  [7, 6, 5, RSP, 3, 2, 1, 0].forEach((register, n) => {
    if (register !== RSP) m.setRegister(register, m.size, values[n] ?? i64(0n));
  });
}

export const stackRows: readonly IsaRow[] = [
  { mnemonic: "push", opcode: "50+r", operands: "Zv", meaning: push, ...STACK, hot: [8] },
  { mnemonic: "pop", opcode: "58+r", operands: "Zv", meaning: pop, ...STACK, hot: [8] },
  { mnemonic: "push", opcode: "68", operands: "Iz", meaning: push, ...STACK },
  { mnemonic: "push", opcode: "6A", operands: "sIb", meaning: push, ...STACK },
  { mnemonic: "push", opcode: "FF /6", operands: "Ev", meaning: push, ...STACK, hot: [8] },
  { mnemonic: "pop", opcode: "8F /0", operands: "Ev", meaning: pop, ...STACK },
  { mnemonic: "pusha", opcode: "60", operands: "", meaning: pushAll, only: "legacy", stack: true, sized: true },
  { mnemonic: "popa", opcode: "61", operands: "", meaning: popAll, only: "legacy", stack: true, sized: true },
  { mnemonic: "leave", opcode: "C9", operands: "", meaning: (m) => leave(m, false), ...STACK, only: "64", hot: [8] },
  { mnemonic: "leave", opcode: "C9", operands: "", meaning: (m) => leave(m, true), ...STACK, only: "legacy" },
  { mnemonic: "pushf", opcode: "9C", operands: "", meaning: pushFlags, ...STACK, hot: [8] },
];
