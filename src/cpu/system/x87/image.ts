import { CR0 } from "../../../arch/x86.js";
import type { Instruction } from "../../isa/instruction.js";
import { REG } from "../../layout.js";
import type { CpuState } from "../../state.js";
import type { CpuEnvironment, SystemOperation } from "../environment.js";
import { begin, requireDevice, withSummary } from "./stack.js";
import { abridgedTags, fullTags } from "./tags.js";

/** FLDENV, FNSTENV, FRSTOR and FNSAVE: the environment in its four formats (SDM 1 figures 8-9 to 8-12), and the registers. */

const REGISTERS = 8;
const REGISTER_BYTES = 10;
const FCW_INIT = 0x37f;
const FCW_WRITABLE = 0x1f3f;
const FCW_ALWAYS = 0x40;
const MASKS = 0x3f;
const FTW_EMPTY = 0xffff;
const OPCODE_MASK = 0x7ff;
const LOW16 = 0xffffn;
/** VM in RFLAGS. */
const VM = 0x2_0000;

interface Pointers {
  readonly instruction: bigint;
  readonly data: bigint;
  readonly opcode: number;
  readonly codeSelector: number;
  readonly dataSelector: number;
}

interface Format {
  /** Bytes of the environment. */
  readonly bytes: number;
  /** Distance of the control, status and tag words from each other. */
  readonly step: number;
  readonly read: (view: DataView) => Pointers;
  readonly write: (view: DataView, pointers: Pointers) => void;
}

const PROTECTED_32: Format = {
  bytes: 28,
  step: 4,
  read: (view) => ({
    instruction: BigInt(view.getUint32(12, true)),
    codeSelector: view.getUint16(16, true),
    opcode: view.getUint16(18, true) & OPCODE_MASK,
    data: BigInt(view.getUint32(20, true)),
    dataSelector: view.getUint16(24, true),
  }),
  write: (view, { instruction, data, opcode, codeSelector, dataSelector }) => {
    view.setUint32(12, Number(instruction & 0xffff_ffffn), true);
    view.setUint16(16, codeSelector, true);
    view.setUint16(18, opcode, true);
    view.setUint32(20, Number(data & 0xffff_ffffn), true);
    view.setUint16(24, dataSelector, true);
    view.setUint16(26, 0xffff, true);
  },
};

const PROTECTED_16: Format = {
  bytes: 14,
  step: 2,
  read: (view) => ({
    instruction: BigInt(view.getUint16(6, true)),
    codeSelector: view.getUint16(8, true),
    opcode: 0,
    data: BigInt(view.getUint16(10, true)),
    dataSelector: view.getUint16(12, true),
  }),
  write: (view, { instruction, data, codeSelector, dataSelector }) => {
    view.setUint16(6, Number(instruction & LOW16), true);
    view.setUint16(8, codeSelector, true);
    view.setUint16(10, Number(data & LOW16), true);
    view.setUint16(12, dataSelector, true);
  },
};

/** In real mode a pointer is a linear address, cut in two: its upper part lies in bits 27:12 of the second half. */
const upper32 = (view: DataView, at: number): bigint => BigInt((view.getUint32(at, true) >>> 12) & 0xffff) << 16n;
const upper16 = (view: DataView, at: number): bigint => BigInt(view.getUint16(at, true) >>> 12) << 16n;
const linear = (pointer: bigint, selector: number): bigint => pointer + (BigInt(selector) << 4n);

const REAL_32: Format = {
  bytes: 28,
  step: 4,
  read: (view) => ({
    instruction: BigInt(view.getUint16(12, true)) | upper32(view, 16),
    opcode: view.getUint16(16, true) & OPCODE_MASK,
    data: BigInt(view.getUint16(20, true)) | upper32(view, 24),
    codeSelector: 0,
    dataSelector: 0,
  }),
  write: (view, { instruction, data, opcode, codeSelector, dataSelector }) => {
    const [code, operand] = [linear(instruction, codeSelector), linear(data, dataSelector)];
    view.setUint32(12, 0xffff_0000 + Number(code & LOW16), true);
    view.setUint32(16, (Number((code >> 16n) & LOW16) << 12) | opcode, true);
    view.setUint32(20, 0xffff_0000 + Number(operand & LOW16), true);
    view.setUint32(24, Number((operand >> 16n) & LOW16) << 12, true);
  },
};

const REAL_16: Format = {
  bytes: 14,
  step: 2,
  read: (view) => ({
    instruction: BigInt(view.getUint16(6, true)) | upper16(view, 8),
    opcode: view.getUint16(8, true) & OPCODE_MASK,
    data: BigInt(view.getUint16(10, true)) | upper16(view, 12),
    codeSelector: 0,
    dataSelector: 0,
  }),
  write: (view, { instruction, data, opcode, codeSelector, dataSelector }) => {
    const [code, operand] = [linear(instruction, codeSelector), linear(data, dataSelector)];
    view.setUint16(6, Number(code & LOW16), true);
    view.setUint16(8, (Number((code >> 16n) & 0xfn) << 12) | opcode, true);
    view.setUint16(10, Number(operand & LOW16), true);
    view.setUint16(12, Number((operand >> 16n) & 0xfn) << 12, true);
  },
};

function formatOf({ state }: CpuEnvironment, { operandSize }: Instruction): Format {
  const real = !(state.get32(REG.CR0) & CR0.PE) || (state.get32(REG.FLAGS) & VM) !== 0;
  // 64-bit mode has no format of its own.
  if (operandSize === 2) return real ? REAL_16 : PROTECTED_16;
  return real ? REAL_32 : PROTECTED_32;
}

function store(state: CpuState, view: DataView, format: Format): void {
  const words = [state.get16(REG.FCW), state.get16(REG.FSW), fullTags(state, abridgedTags(state))];
  words.forEach((word, n) => {
    view.setUint16(n * format.step, word, true);
    // What a 16-bit field leaves of 32 bits is stored as ones.
    if (format.step === 4) view.setUint16(n * format.step + 2, 0xffff, true);
  });
  format.write(view, {
    instruction: state.get(REG.FIP),
    data: state.get(REG.FDP),
    opcode: state.get16(REG.FOP),
    codeSelector: state.get16(REG.FCS),
    dataSelector: state.get16(REG.FDS),
  });
}

/** Control and status words and pointers; the tags wait for the registers. Returns the abridged tags. */
function load(state: CpuState, view: DataView, format: Format): number {
  const word = (n: number): number => view.getUint16(n * format.step, true);
  const fcw = (word(0) & FCW_WRITABLE) | FCW_ALWAYS;
  state.set16(REG.FCW, fcw);
  state.set16(REG.FSW, withSummary(word(1), fcw));
  const pointers = format.read(view);
  state.set(REG.FIP, pointers.instruction);
  state.set(REG.FDP, pointers.data);
  state.set16(REG.FOP, pointers.opcode);
  state.set16(REG.FCS, pointers.codeSelector);
  state.set16(REG.FDS, pointers.dataSelector);
  state.set16(REG.FTW, word(2));
  return abridgedTags(state);
}

/** ST(i) by its distance from the top, as an address. */
const stackAddress = (state: CpuState, i: number): number => REG.FPR + (((state.get16(REG.FSW) >> 11) + i) & 7) * 16;

const fldenv: SystemOperation = (environment, instruction) => {
  begin(environment);
  const { state } = environment;
  const format = formatOf(environment, instruction);
  const bytes = environment.linear.readBytes(environment.linearAddress(instruction, format.bytes), format.bytes);
  const abridged = load(state, new DataView(bytes.buffer), format);
  state.set16(REG.FTW, fullTags(state, abridged));
  return "next";
};

const fnstenv: SystemOperation = (environment, instruction) => {
  requireDevice(environment);
  const { state } = environment;
  const format = formatOf(environment, instruction);
  const address = environment.linearAddress(instruction, format.bytes);
  const bytes = new Uint8Array(format.bytes);
  store(state, new DataView(bytes.buffer), format);
  environment.linear.writeBytes(address, bytes);
  state.set16(REG.FCW, state.get16(REG.FCW) | MASKS);
  state.set16(REG.FSW, withSummary(state.get16(REG.FSW), state.get16(REG.FCW)));
  return "next";
};

const frstor: SystemOperation = (environment, instruction) => {
  begin(environment);
  const { state } = environment;
  const format = formatOf(environment, instruction);
  const length = format.bytes + REGISTERS * REGISTER_BYTES;
  const bytes = environment.linear.readBytes(environment.linearAddress(instruction, length), length);
  const view = new DataView(bytes.buffer);
  const abridged = load(state, view, format);
  for (let n = 0; n < REGISTERS; n++) {
    const from = format.bytes + n * REGISTER_BYTES;
    const at = stackAddress(state, n);
    state.set(at, view.getBigUint64(from, true));
    state.set(at + 8, BigInt(view.getUint16(from + 8, true)));
  }
  state.set16(REG.FTW, fullTags(state, abridged));
  return "next";
};

const fnsave: SystemOperation = (environment, instruction) => {
  requireDevice(environment);
  const { state } = environment;
  const format = formatOf(environment, instruction);
  const length = format.bytes + REGISTERS * REGISTER_BYTES;
  const address = environment.linearAddress(instruction, length);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  store(state, view, format);
  for (let n = 0; n < REGISTERS; n++) {
    const to = format.bytes + n * REGISTER_BYTES;
    const at = stackAddress(state, n);
    view.setBigUint64(to, state.get(at), true);
    view.setUint16(to + 8, state.get16(at + 8), true);
  }
  environment.linear.writeBytes(address, bytes);
  state.set16(REG.FCW, FCW_INIT);
  for (const word of [REG.FSW, REG.FOP, REG.FCS, REG.FDS]) state.set16(word, 0);
  state.set16(REG.FTW, FTW_EMPTY);
  state.set(REG.FIP, 0n);
  state.set(REG.FDP, 0n);
  return "next";
};

export const x87ImageOperations: Readonly<Record<string, SystemOperation>> = { fldenv, fnstenv, frstor, fnsave };
