import { INTERRUPTION } from "../../arch/vmx.js";
import { BLOCKING, CR0, EFER, RFLAGS, RIGHTS } from "../../arch/x86.js";
import { CpuException, generalProtection, invalidOpcode, VECTOR } from "../faults.js";
import { accessed, dplOf, notPresent, nullSegment, readDescriptor } from "../interrupts/descriptor.js";
import type { Instruction } from "../isa/instruction.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation, SystemResult } from "./environment.js";
import { flagsOf, isCanonical, nextRip } from "./operands.js";
import { checkStackSegment, moveStack, stackAddress } from "./segments.js";
import { SoftwareEvent } from "./software-event.js";

const error = (selector: number): CpuException => generalProtection(selector & 0xfffc);
const inLongMode = (environment: CpuEnvironment): boolean => (environment.state.get32(REG.EFER) & EFER.LMA) !== 0;
const wideCode = (rights: number): boolean => (rights & RIGHTS.L) !== 0;

/** Checks an instruction pointer against the code segment that it is for. */
function checkTarget(environment: CpuEnvironment, rights: number, limit: number, rip: bigint): void {
  if (inLongMode(environment) && wideCode(rights)) {
    if (!isCanonical(rip)) throw generalProtection();
  } else if (rip > BigInt(limit)) throw generalProtection();
}

/** Far jump or call to a code segment of the same privilege. Call gates and task gates are not taken: no TD kernel makes any. */
function farTransfer(environment: CpuEnvironment, selector: number, offset: bigint, before: () => void): SystemResult {
  const { state } = environment;
  if ((selector & 0xfffc) === 0) throw generalProtection();
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  const { rights } = descriptor;
  const cpl = state.cpl;
  if (!(rights & RIGHTS.S) || !(rights & RIGHTS.CODE)) throw error(selector);
  if (inLongMode(environment) && wideCode(rights) && rights & RIGHTS.DB) throw error(selector);
  const dpl = dplOf(rights);
  const conforming = (rights & RIGHTS.EXPAND_DOWN_OR_CONFORMING) !== 0;
  if (conforming ? dpl > cpl : (selector & 3) > cpl || dpl !== cpl) throw error(selector);
  if (!(rights & RIGHTS.P)) throw notPresent(selector);
  checkTarget(environment, rights, descriptor.limit, offset);
  const code = accessed(environment, descriptor, (selector & 0xfffc) | cpl);
  before();
  state.setSegment(SEGMENT.CS, code);
  state.rip = offset;
  environment.modeChanged();
  return "jump";
}

function farPointer(environment: CpuEnvironment, instruction: Instruction): { selector: number; offset: bigint } {
  const bytes = instruction.operandSize;
  if (!instruction.memory)
    return { selector: instruction.immediate2, offset: BigInt.asUintN(bytes * 8, instruction.immediate) };
  const address = environment.linearAddress(instruction, bytes + 2);
  return {
    offset: environment.linear.read(address, bytes),
    selector: Number(environment.linear.read(address + BigInt(bytes), 2)),
  };
}

const farJump: SystemOperation = (environment, instruction) => {
  const { selector, offset } = farPointer(environment, instruction);
  return farTransfer(environment, selector, offset, () => {});
};

const farCall: SystemOperation = (environment, instruction) => {
  const { selector, offset } = farPointer(environment, instruction);
  const bytes = instruction.operandSize;
  const { state, linear } = environment;
  const returnSelector = BigInt(state.get16(REG.SEGMENTS + SEGMENT.CS * SEG_SIZE + SEG.SELECTOR));
  const back = nextRip(environment, instruction);
  return farTransfer(environment, selector, offset, () => {
    const low = stackAddress(environment, -2 * bytes);
    const high = stackAddress(environment, -bytes);
    linear.probeWrite(low, bytes);
    linear.write(high, bytes, returnSelector);
    linear.write(low, bytes, back);
    moveStack(environment, -2 * bytes);
  });
};

/** A return target: code segment by selector with RPL as the new CPL. */
function returnCode(environment: CpuEnvironment, selector: number): ReturnType<typeof readDescriptor> {
  if ((selector & 0xfffc) === 0) throw generalProtection();
  const descriptor = readDescriptor(environment, selector, VECTOR.GP);
  const { rights } = descriptor;
  const rpl = selector & 3;
  if (!(rights & RIGHTS.S) || !(rights & RIGHTS.CODE) || rpl < environment.state.cpl) throw error(selector);
  const conforming = (rights & RIGHTS.EXPAND_DOWN_OR_CONFORMING) !== 0;
  if (conforming ? dplOf(rights) > rpl : dplOf(rights) !== rpl) throw error(selector);
  if (inLongMode(environment) && wideCode(rights) && rights & RIGHTS.DB) throw error(selector);
  if (!(rights & RIGHTS.P)) throw notPresent(selector);
  return descriptor;
}

/** Data segments that the new, outer privilege level may not use become null. */
function dropInnerSegments(environment: CpuEnvironment, cpl: number): void {
  const { state } = environment;
  for (const index of [SEGMENT.ES, SEGMENT.DS, SEGMENT.FS, SEGMENT.GS]) {
    const rights = state.get32(REG.SEGMENTS + index * SEG_SIZE + SEG.RIGHTS);
    const conforming =
      (rights & (RIGHTS.CODE | RIGHTS.EXPAND_DOWN_OR_CONFORMING)) === (RIGHTS.CODE | RIGHTS.EXPAND_DOWN_OR_CONFORMING);
    if (!(rights & RIGHTS.UNUSABLE) && !conforming && dplOf(rights) < cpl) state.setSegment(index, nullSegment(0));
  }
}

const farReturn: SystemOperation = (environment, instruction) => {
  const bytes = instruction.operandSize;
  const { state, linear } = environment;
  const release = instruction.opcode === 0xca ? Number(instruction.immediate & 0xffffn) : 0;
  const rip = linear.read(stackAddress(environment, 0), bytes);
  const selector = Number(linear.read(stackAddress(environment, bytes), bytes) & 0xffffn);
  const descriptor = returnCode(environment, selector);
  checkTarget(environment, descriptor.rights, descriptor.limit, rip);
  const cpl = selector & 3;
  const outer = cpl > state.cpl;
  let newRsp = 0n;
  let loadStack = (): void => {};
  if (outer) {
    newRsp = linear.read(stackAddress(environment, 2 * bytes + release), bytes);
    const ss = Number(linear.read(stackAddress(environment, 3 * bytes + release), bytes) & 0xffffn);
    loadStack = checkStackSegment(environment, ss, cpl, wideCode(descriptor.rights));
  }
  const code = accessed(environment, descriptor);
  if (outer) {
    loadStack();
    state.setGpr(4, newRsp + BigInt(release));
    dropInnerSegments(environment, cpl);
  } else moveStack(environment, 2 * bytes + release);
  state.setSegment(SEGMENT.CS, code);
  state.set32(REG.CPL, cpl);
  state.rip = rip;
  environment.modeChanged();
  return "jump";
};

/** RFLAGS as IRET and POPF may change them, by operand size and privilege. */
export function writableFlags(environment: CpuEnvironment, bytes: number, iret: boolean): bigint {
  const cpl = environment.state.cpl;
  const iopl = (flagsOf(environment) >> 12) & 3;
  let mask = RFLAGS.CF | RFLAGS.PF | RFLAGS.AF | RFLAGS.ZF | RFLAGS.SF | RFLAGS.TF | RFLAGS.DF | RFLAGS.OF | RFLAGS.NT;
  if (bytes > 2) mask |= RFLAGS.AC | RFLAGS.ID | (iret ? RFLAGS.RF : 0);
  if (cpl <= iopl) mask |= RFLAGS.IF;
  if (cpl === 0) mask |= RFLAGS.IOPL | (bytes > 2 && iret ? RFLAGS.VIF | RFLAGS.VIP : 0);
  return BigInt(mask);
}

/** RIP, CS, RFLAGS, RSP, SS. */
const FRAME_WORDS = 5;
const frame = new BigUint64Array(FRAME_WORDS);

const iret: SystemOperation = (environment, instruction) => {
  const { state, linear } = environment;
  const bytes = instruction.operandSize;
  const long = inLongMode(environment);
  if (!long && !(state.get32(REG.CR0) & CR0.PE)) throw generalProtection();
  if (flagsOf(environment) & RFLAGS.NT) {
    // A return from a nested task: IA-32e mode has none, and no TD has tasks.
    throw long
      ? generalProtection()
      : new CpuException(VECTOR.TS, state.get16(REG.SEGMENTS + SEGMENT.TR * SEG_SIZE + SEG.SELECTOR) & 0xfffc);
  }
  // In 64-bit mode the whole frame is there to be read; otherwise its second part belongs to outer returns alone.
  const whole = bytes === 8 && state.longMode;
  if (whole) linear.readWords(stackAddress(environment, 0), frame, FRAME_WORDS);
  const at = (n: number): bigint =>
    whole ? (frame[n] as bigint) : linear.read(stackAddress(environment, n * bytes), bytes);
  const rip = at(0);
  const selector = Number(at(1) & 0xffffn);
  const flags = Number(at(2) & 0xffff_ffffn);
  const descriptor = returnCode(environment, selector);
  checkTarget(environment, descriptor.rights, descriptor.limit, rip);
  const cpl = selector & 3;
  const outer = cpl > state.cpl;
  const withStack = outer || state.longMode;
  let newRsp = 0n;
  let loadStack = (): void => {};
  if (withStack) {
    newRsp = at(3);
    loadStack = checkStackSegment(environment, Number(at(4) & 0xffffn), cpl, long && wideCode(descriptor.rights));
  }
  const code = accessed(environment, descriptor);
  const mask = Number(writableFlags(environment, bytes, true));
  const before = state.flags;
  if (withStack) {
    loadStack();
    state.setGpr(4, newRsp);
  } else moveStack(environment, 3 * bytes);
  state.setSegment(SEGMENT.CS, code);
  state.set32(REG.CPL, cpl);
  if (outer) dropInnerSegments(environment, cpl);
  state.flags = (before & ~mask & ~(bytes > 2 ? RFLAGS.RF : 0)) | (flags & mask);
  state.rip = rip;
  state.set32(REG.INTERRUPTIBILITY, state.get32(REG.INTERRUPTIBILITY) & ~BLOCKING.NMI);
  environment.modeChanged();
  return "jump";
};

const flatSegment = (
  selector: number,
  rights: number,
): { selector: number; base: bigint; limit: number; rights: number } => ({
  selector,
  base: 0n,
  limit: 0xffff_ffff,
  rights,
});
/** Rights of the segments that SYSCALL and its kin load without looking at a descriptor. */
const FLAT = { CODE64: 0xa09b, CODE32: 0xc09b, DATA: 0xc093 } as const;
const withDpl = (rights: number, dpl: number): number => rights | (dpl << RIGHTS.DPL_SHIFT);

const syscall: SystemOperation = (environment, instruction) => {
  const { state } = environment;
  if (!state.longMode || !(state.get32(REG.EFER) & EFER.SCE)) throw invalidOpcode();
  state.setGpr(1, nextRip(environment, instruction));
  state.setGpr(11, state.rflags & ~BigInt(RFLAGS.RF));
  const selector = Number((state.get(REG.STAR) >> 32n) & 0xfffcn);
  state.rflags = state.rflags & ~state.get(REG.FMASK) & ~BigInt(RFLAGS.RF);
  state.setSegment(SEGMENT.CS, flatSegment(selector, FLAT.CODE64));
  state.setSegment(SEGMENT.SS, flatSegment(selector + 8, FLAT.DATA));
  state.set32(REG.CPL, 0);
  state.rip = state.get(REG.LSTAR);
  environment.modeChanged();
  return "jump";
};

const sysret: SystemOperation = (environment, instruction) => {
  const { state } = environment;
  if (!state.longMode || !(state.get32(REG.EFER) & EFER.SCE)) throw invalidOpcode();
  if (state.cpl !== 0) throw generalProtection();
  const wide = instruction.operandSize === 8;
  const target = state.gpr(1);
  if (wide && !isCanonical(target)) throw generalProtection();
  const base = Number((state.get(REG.STAR) >> 48n) & 0xffffn);
  const cs = ((wide ? base + 16 : base) | 3) & 0xffff;
  state.rflags = (state.gpr(11) & 0x3c7fd7n) | 2n;
  state.setSegment(SEGMENT.CS, flatSegment(cs, withDpl(wide ? FLAT.CODE64 : FLAT.CODE32, 3)));
  state.setSegment(SEGMENT.SS, flatSegment(((base + 8) | 3) & 0xffff, withDpl(FLAT.DATA, 3)));
  state.set32(REG.CPL, 3);
  state.rip = wide ? target : target & 0xffff_ffffn;
  environment.modeChanged();
  return "jump";
};

const sysenter: SystemOperation = (environment) => {
  const { state } = environment;
  const selector = state.get32(REG.SYSENTER_CS) & 0xfffc;
  if (selector === 0) throw generalProtection();
  const long = inLongMode(environment);
  state.rflags = state.rflags & ~BigInt(RFLAGS.VM | RFLAGS.IF | RFLAGS.RF);
  state.setSegment(SEGMENT.CS, flatSegment(selector, long ? FLAT.CODE64 : FLAT.CODE32));
  state.setSegment(SEGMENT.SS, flatSegment(selector + 8, FLAT.DATA));
  state.set32(REG.CPL, 0);
  const mask = long ? (1n << 64n) - 1n : 0xffff_ffffn;
  state.setGpr(4, state.get(REG.SYSENTER_ESP) & mask);
  state.rip = state.get(REG.SYSENTER_EIP) & mask;
  environment.modeChanged();
  return "jump";
};

const sysexit: SystemOperation = (environment, instruction) => {
  const { state } = environment;
  const selector = state.get32(REG.SYSENTER_CS) & 0xfffc;
  if (selector === 0 || state.cpl !== 0) throw generalProtection();
  const wide = instruction.operandSize === 8;
  const rip = state.gpr(2);
  const rsp = state.gpr(1);
  if (wide && (!isCanonical(rip) || !isCanonical(rsp))) throw generalProtection();
  state.setSegment(
    SEGMENT.CS,
    flatSegment((selector + (wide ? 32 : 16)) | 3, withDpl(wide ? FLAT.CODE64 : FLAT.CODE32, 3)),
  );
  state.setSegment(SEGMENT.SS, flatSegment((selector + (wide ? 40 : 24)) | 3, withDpl(FLAT.DATA, 3)));
  state.set32(REG.CPL, 3);
  state.setGpr(4, wide ? rsp : rsp & 0xffff_ffffn);
  state.rip = wide ? rip : rip & 0xffff_ffffn;
  environment.modeChanged();
  return "jump";
};

/** An event that an instruction causes; `type` as in VMX interruption information. */
const software =
  (vector: (instruction: Instruction) => number, type: number): SystemOperation =>
  (_environment, instruction) => {
    throw new SoftwareEvent({
      info: vector(instruction) | type,
      errorCode: null,
      address: 0n,
      instructionLength: instruction.length,
    });
  };

export const transferOperations: Readonly<Record<string, SystemOperation>> = {
  "far-jmp": farJump,
  "far-call": farCall,
  "far-ret": farReturn,
  iret,
  syscall,
  sysret,
  sysenter,
  sysexit,
  int: software(({ immediate }) => Number(immediate & 0xffn), INTERRUPTION.TYPE_SOFTWARE_INTERRUPT),
  int3: software(() => VECTOR.BP, INTERRUPTION.TYPE_SOFTWARE_EXCEPTION),
  int1: software(() => VECTOR.DB, INTERRUPTION.TYPE_PRIVILEGED_SOFTWARE_EXCEPTION),
  into: (environment, instruction) => {
    if (!(environment.state.rflags & BigInt(RFLAGS.OF))) return "next";
    return software(() => VECTOR.OF, INTERRUPTION.TYPE_SOFTWARE_EXCEPTION)(environment, instruction);
  },
};
