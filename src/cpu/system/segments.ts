import { BLOCKING, RIGHTS } from "../../arch/x86.js";
import { CpuException, generalProtection, invalidOpcode, VECTOR } from "../faults.js";
import { accessed, dplOf, longBase, notPresent, nullSegment, readDescriptor } from "../interrupts/descriptor.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { isCanonical, readRm, requirePrivilege, setGpr, writeRm } from "./operands.js";

const error = (selector: number): CpuException => generalProtection(selector & 0xfffc);

/**
 * Checks a selector for SS at a privilege level and gives what loads it; a null selector is legal only in 64-bit mode below
 * CPL 3 (SDM 2, MOV and IRET).
 */
export function checkStackSegment(
  environment: CpuEnvironment,
  selector: number,
  cpl: number,
  longMode: boolean,
): () => void {
  const { state } = environment;
  if ((selector & 0xfffc) === 0) {
    if (!longMode || cpl === 3 || (selector & 3) !== cpl) throw generalProtection();
    return () => state.setSegment(SEGMENT.SS, nullSegment(selector, cpl));
  }
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  const writable =
    (descriptor.rights & (RIGHTS.S | RIGHTS.CODE | RIGHTS.WRITABLE_OR_READABLE)) ===
    (RIGHTS.S | RIGHTS.WRITABLE_OR_READABLE);
  if ((selector & 3) !== cpl || dplOf(descriptor.rights) !== cpl || !writable) throw error(selector);
  if (!(descriptor.rights & RIGHTS.P)) throw new CpuException(VECTOR.SS, selector & 0xfffc);
  return () => state.setSegment(SEGMENT.SS, accessed(environment, descriptor));
}

/** Loads ES, SS, DS, FS or GS with a selector (SDM 2, MOV). */
export function loadSegment(environment: CpuEnvironment, index: number, selector: number): void {
  const { state } = environment;
  const cpl = state.cpl;
  if (index === SEGMENT.SS) {
    checkStackSegment(environment, selector, cpl, state.longMode)();
    return;
  }
  if ((selector & 0xfffc) === 0) {
    state.setSegment(index, nullSegment(selector));
    return;
  }
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  const { rights } = descriptor;
  const code = (rights & RIGHTS.CODE) !== 0;
  if (!(rights & RIGHTS.S) || (code && !(rights & RIGHTS.WRITABLE_OR_READABLE))) throw error(selector);
  const conforming = code && (rights & RIGHTS.EXPAND_DOWN_OR_CONFORMING) !== 0;
  if (!conforming && ((selector & 3) > dplOf(rights) || cpl > dplOf(rights))) throw error(selector);
  if (!(rights & RIGHTS.P)) throw notPresent(selector);
  state.setSegment(index, accessed(environment, descriptor));
}

/** Blocks interrupts until the next instruction is done. */
function shadowAfterStackLoad(environment: CpuEnvironment): void {
  const { state } = environment;
  state.set32(REG.INTERRUPTIBILITY, state.get32(REG.INTERRUPTIBILITY) | BLOCKING.MOV_SS);
}

const selectorOf = (environment: CpuEnvironment, index: number): number =>
  environment.state.get16(REG.SEGMENTS + index * SEG_SIZE + SEG.SELECTOR);

const movToSreg: SystemOperation = (environment, instruction) => {
  const index = instruction.reg & 7;
  if (index === SEGMENT.CS || index > SEGMENT.GS) throw invalidOpcode();
  const selector = Number(readRm(environment, instruction, 2));
  loadSegment(environment, index, selector);
  environment.modeChanged();
  if (index === SEGMENT.SS) shadowAfterStackLoad(environment);
  return "next";
};

/** Segment register of PUSH and POP by opcode: 06 0E 16 1E, 0F A0, 0F A8. */
function pushedSegment(opcode: number, map: number): number {
  if (map === 1) return opcode < 0xa8 ? SEGMENT.FS : SEGMENT.GS;
  return opcode >> 3;
}

/** Stack pointer as an offset and the linear address that it stands for. */
function stack(environment: CpuEnvironment): { mask: bigint; base: bigint } {
  const { state } = environment;
  if (state.longMode) return { mask: (1n << 64n) - 1n, base: 0n };
  const at = REG.SEGMENTS + SEGMENT.SS * SEG_SIZE;
  return { mask: state.get32(at + SEG.RIGHTS) & RIGHTS.DB ? 0xffff_ffffn : 0xffffn, base: state.get(at + SEG.BASE) };
}

/** Linear address of the stack at RSP plus a distance. */
export function stackAddress(environment: CpuEnvironment, distance: number): bigint {
  const { mask, base } = stack(environment);
  const offset = (environment.state.gpr(4) + BigInt(distance)) & mask;
  if (!environment.state.longMode) return BigInt.asUintN(32, base + offset);
  if (!isCanonical(offset)) throw new CpuException(VECTOR.SS, 0);
  return offset;
}

export function moveStack(environment: CpuEnvironment, distance: number): void {
  const { state } = environment;
  const { mask } = stack(environment);
  const rsp = state.gpr(4);
  state.setGpr(4, (rsp & ~mask) | ((rsp + BigInt(distance)) & mask));
}

const pushSreg: SystemOperation = (environment, instruction) => {
  const bytes = instruction.operandSize;
  const value = BigInt(selectorOf(environment, pushedSegment(instruction.opcode, instruction.map)));
  const address = stackAddress(environment, -bytes);
  // Only the selector is written when a 32-bit push stores a segment register.
  environment.linear.write(address, bytes === 4 ? 2 : bytes, value);
  moveStack(environment, -bytes);
  return "next";
};

const popSreg: SystemOperation = (environment, instruction) => {
  const index = pushedSegment(instruction.opcode, instruction.map);
  const selector = Number(environment.linear.read(stackAddress(environment, 0), 2));
  loadSegment(environment, index, selector);
  moveStack(environment, instruction.operandSize);
  environment.modeChanged();
  if (index === SEGMENT.SS) shadowAfterStackLoad(environment);
  return "next";
};

const loadFarPointer: SystemOperation = (environment, instruction) => {
  const { opcode, map, operandSize } = instruction;
  const index =
    map === 0
      ? opcode === 0xc4
        ? SEGMENT.ES
        : SEGMENT.DS
      : opcode === 0xb2
        ? SEGMENT.SS
        : opcode === 0xb4
          ? SEGMENT.FS
          : SEGMENT.GS;
  const address = environment.linearAddress(instruction, operandSize + 2);
  const offset = environment.linear.read(address, operandSize);
  const selector = Number(environment.linear.read(address + BigInt(operandSize), 2));
  loadSegment(environment, index, selector);
  setGpr(environment, instruction.reg, operandSize, offset);
  environment.modeChanged();
  return "next";
};

/** LGDT and LIDT. */
const loadTable =
  (base: number, limit: number): SystemOperation =>
  (environment, instruction) => {
    requirePrivilege(environment);
    const { state, linear } = environment;
    const wide = state.longMode;
    const address = environment.linearAddress(instruction, wide ? 10 : 6);
    const newLimit = linear.read(address, 2);
    let newBase = linear.read(address + 2n, wide ? 8 : 4);
    if (!wide && instruction.operandSizePrefix) newBase &= 0xff_ffffn;
    if (wide && BigInt.asUintN(64, BigInt.asIntN(48, newBase)) !== newBase) throw generalProtection();
    state.set(base, newBase);
    state.set32(limit, Number(newLimit));
    return "next";
  };

const storeTable =
  (base: number, limit: number): SystemOperation =>
  (environment, instruction) => {
    const { state, linear } = environment;
    const bytes = new Uint8Array(state.longMode ? 10 : 6);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, state.get32(limit), true);
    if (state.longMode) view.setBigUint64(2, state.get(base), true);
    else view.setUint32(2, Number(state.get(base) & 0xffff_ffffn), true);
    linear.writeBytes(environment.linearAddress(instruction, bytes.length), bytes);
    return "next";
  };

const TYPE_LDT = 2;
const TYPE_TSS_AVAILABLE = 9;
const TYPE_BUSY = 2;

const lldt: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const { state } = environment;
  const selector = Number(readRm(environment, instruction, 2));
  if ((selector & 0xfffc) === 0) {
    state.setSegment(SEGMENT.LDTR, { selector, base: 0n, limit: 0, rights: RIGHTS.UNUSABLE });
    return "next";
  }
  if (selector & 4) throw error(selector);
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  if (descriptor.rights & RIGHTS.S || (descriptor.rights & RIGHTS.TYPE) !== TYPE_LDT) throw error(selector);
  if (!(descriptor.rights & RIGHTS.P)) throw notPresent(selector);
  const base = state.longMode ? longBase(environment, descriptor) : descriptor.base;
  state.setSegment(SEGMENT.LDTR, { selector, base, limit: descriptor.limit, rights: descriptor.rights });
  return "next";
};

const ltr: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const { state, linear } = environment;
  const selector = Number(readRm(environment, instruction, 2));
  if ((selector & 0xfffc) === 0) throw generalProtection();
  if (selector & 4) throw error(selector);
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  const type = descriptor.rights & RIGHTS.TYPE;
  const available = type === TYPE_TSS_AVAILABLE || (!state.longMode && type === 1);
  if (descriptor.rights & RIGHTS.S || !available) throw error(selector);
  if (!(descriptor.rights & RIGHTS.P)) throw notPresent(selector);
  const base = state.longMode ? longBase(environment, descriptor) : descriptor.base;
  linear.write(descriptor.address + 5n, 1, BigInt(((descriptor.high >>> 8) & 0xff) | TYPE_BUSY), true);
  state.setSegment(SEGMENT.TR, { selector, base, limit: descriptor.limit, rights: descriptor.rights | TYPE_BUSY });
  return "next";
};

const storeSelector =
  (index: number): SystemOperation =>
  (environment, instruction) => {
    const value = BigInt(selectorOf(environment, index));
    writeRm(environment, instruction, instruction.memory ? 2 : instruction.operandSize, value);
    return "next";
  };

function setZero(environment: CpuEnvironment, zero: boolean): void {
  const { state } = environment;
  state.rflags = zero ? state.rflags | 0x40n : state.rflags & ~0x40n;
}

/** A descriptor for LAR, LSL, VERR and VERW: null when the instruction just clears ZF. */
function visible(environment: CpuEnvironment, selector: number): ReturnType<typeof readDescriptor> | null {
  if ((selector & 0xfffc) === 0) return null;
  try {
    return readDescriptor(environment, selector, VECTOR.GP);
  } catch (thrown) {
    if (thrown instanceof CpuException && thrown.vector === VECTOR.GP) return null;
    throw thrown;
  }
}

function privilegeAllows(environment: CpuEnvironment, selector: number, rights: number): boolean {
  const conforming =
    (rights & (RIGHTS.S | RIGHTS.CODE | RIGHTS.EXPAND_DOWN_OR_CONFORMING)) ===
    (RIGHTS.S | RIGHTS.CODE | RIGHTS.EXPAND_DOWN_OR_CONFORMING);
  return conforming || Math.max(environment.state.cpl, selector & 3) <= dplOf(rights);
}

/** System descriptor types that LAR and LSL accept: in IA-32e mode, outside it. */
const LAR_TYPES = { long: [2, 9, 11, 12], legacy: [1, 2, 3, 4, 5, 9, 11, 12] };
const LSL_TYPES = { long: [2, 9, 11], legacy: [1, 2, 3, 9, 11] };

const examine =
  (types: typeof LAR_TYPES, value: (descriptor: ReturnType<typeof readDescriptor>) => bigint): SystemOperation =>
  (environment, instruction) => {
    const selector = Number(readRm(environment, instruction, 2));
    const descriptor = visible(environment, selector);
    const long = (environment.state.get32(REG.EFER) & 0x400) !== 0;
    const known =
      descriptor &&
      (descriptor.rights & RIGHTS.S || (long ? types.long : types.legacy).includes(descriptor.rights & RIGHTS.TYPE));
    if (!descriptor || !known || !privilegeAllows(environment, selector, descriptor.rights)) {
      setZero(environment, false);
      return "next";
    }
    setGpr(environment, instruction.reg, instruction.operandSize, value(descriptor));
    setZero(environment, true);
    return "next";
  };

const verify =
  (write: boolean): SystemOperation =>
  (environment, instruction) => {
    const selector = Number(readRm(environment, instruction, 2));
    const descriptor = visible(environment, selector);
    const rights = descriptor?.rights ?? 0;
    const code = (rights & RIGHTS.CODE) !== 0;
    const bit = (rights & RIGHTS.WRITABLE_OR_READABLE) !== 0;
    const usable = (rights & RIGHTS.S) !== 0 && (write ? !code && bit : !code || bit);
    setZero(environment, descriptor !== null && usable && privilegeAllows(environment, selector, rights));
    return "next";
  };

const arpl: SystemOperation = (environment, instruction) => {
  const destination = Number(readRm(environment, instruction, 2));
  const rpl = Number(environment.state.gpr(instruction.reg) & 3n);
  const lower = (destination & 3) < rpl;
  if (lower) writeRm(environment, instruction, 2, BigInt((destination & 0xfffc) | rpl));
  setZero(environment, lower);
  return "next";
};

export const segmentOperations: Readonly<Record<string, SystemOperation>> = {
  "mov-to-sreg": movToSreg,
  "push-sreg": pushSreg,
  "pop-sreg": popSreg,
  "load-far-pointer": loadFarPointer,
  lgdt: loadTable(REG.GDTR_BASE, REG.GDTR_LIMIT),
  lidt: loadTable(REG.IDTR_BASE, REG.IDTR_LIMIT),
  sgdt: storeTable(REG.GDTR_BASE, REG.GDTR_LIMIT),
  sidt: storeTable(REG.IDTR_BASE, REG.IDTR_LIMIT),
  lldt,
  ltr,
  sldt: storeSelector(SEGMENT.LDTR),
  str: storeSelector(SEGMENT.TR),
  lar: examine(LAR_TYPES, ({ high }) => BigInt((high & 0x00ff_ff00) >>> 0)),
  lsl: examine(LSL_TYPES, ({ limit }) => BigInt(limit)),
  verr: verify(false),
  verw: verify(true),
  arpl,
};
