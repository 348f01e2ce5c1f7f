import { INTERRUPTION } from "../../arch/vmx.js";
import { BLOCKING, CR0, DESCRIPTOR_TYPE, EFER, RFLAGS, RIGHTS, SELECTOR_ERROR } from "../../arch/x86.js";
import { releaseDebugRegisters } from "../debug.js";
import { CpuException, VECTOR, VmExitSignal } from "../faults.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment } from "../system/environment.js";
import { accessed, type Descriptor, dplOf, nullSegment, readDescriptor } from "./descriptor.js";

/** An event on its way through the IDT. */
export interface DeliveredEvent {
  /** Vector 7:0 and type 10:8, as in VMX interruption information. */
  readonly info: number;
  readonly errorCode: number | null;
  /** For CR2 (#PF). */
  readonly address: bigint;
  /** Length of INT n, INT3, INTO: the return address is behind the instruction. */
  readonly instructionLength: number;
}

const TYPE_MASK = INTERRUPTION.TYPE_MASK;

/** How exceptions combine into #DF (SDM 3A table 6-5). */
function combines(first: number, second: number): boolean {
  const contributory = (vector: number): boolean =>
    vector === VECTOR.DE ||
    vector === VECTOR.TS ||
    vector === VECTOR.NP ||
    vector === VECTOR.SS ||
    vector === VECTOR.GP;
  if (first === VECTOR.PF || first === VECTOR.VE)
    return contributory(second) || second === VECTOR.PF || second === VECTOR.VE;
  return contributory(first) && contributory(second);
}

const isDebug = ({ info }: DeliveredEvent): boolean =>
  info === (VECTOR.DB | INTERRUPTION.TYPE_HARDWARE_EXCEPTION) ||
  info === (VECTOR.DB | INTERRUPTION.TYPE_PRIVILEGED_SOFTWARE_EXCEPTION);

/** Delivers an event; exceptions on the way are delivered in its place, or combine into #DF and triple fault. */
export function deliverEvent(environment: CpuEnvironment, event: DeliveredEvent): "delivered" | "triple-fault" {
  let current = event;
  for (;;) {
    try {
      deliverOnce(environment, current);
      if (isDebug(current)) releaseDebugRegisters(environment.state);
      return "delivered";
    } catch (thrown) {
      if (thrown instanceof VmExitSignal) {
        const code = current.errorCode === null ? 0 : INTERRUPTION.ERROR_CODE_VALID;
        Object.assign(thrown.exit, {
          idtVectoringInfo: (INTERRUPTION.VALID | current.info | code) >>> 0,
          idtVectoringErrorCode: current.errorCode ?? 0,
          instructionLength: current.instructionLength,
        });
        throw thrown;
      }
      if (!(thrown instanceof CpuException)) throw thrown;
      const first = current.info & 0xff;
      const firstIsException = (current.info & TYPE_MASK) === INTERRUPTION.TYPE_HARDWARE_EXCEPTION;
      if (firstIsException && first === VECTOR.DF) return "triple-fault";
      const double = firstIsException && combines(first, thrown.vector);
      current = {
        info: (double ? VECTOR.DF : thrown.vector) | INTERRUPTION.TYPE_HARDWARE_EXCEPTION,
        errorCode: double ? 0 : thrown.errorCode,
        address: thrown.address,
        instructionLength: 0,
      };
    }
  }
}

/** Fault-class exceptions save RF = 1, so that the restarted instruction does not meet its own code breakpoint again. */
function savedFlags(environment: CpuEnvironment, vector: number, type: number): bigint {
  const flags = environment.state.rflags;
  const fault =
    type === INTERRUPTION.TYPE_HARDWARE_EXCEPTION &&
    vector !== VECTOR.DB &&
    vector !== VECTOR.DF &&
    vector !== VECTOR.MC;
  return fault ? flags | BigInt(RFLAGS.RF) : flags;
}

function deliverOnce(environment: CpuEnvironment, event: DeliveredEvent): void {
  const { state } = environment;
  const vector = event.info & 0xff;
  const type = event.info & TYPE_MASK;
  if (type === INTERRUPTION.TYPE_HARDWARE_EXCEPTION && vector === VECTOR.PF) state.set(REG.CR2, event.address);
  if (state.get32(REG.EFER) & EFER.LMA) deliverLong(environment, event, vector, type);
  else if (state.get32(REG.CR0) & CR0.PE) deliverProtected(environment, event, vector, type);
  else throw new CpuException(VECTOR.DF, 0);
}

interface Gate {
  readonly selector: number;
  readonly offset: bigint;
  readonly trap: boolean;
  readonly wide: boolean;
  readonly ist: number;
}

const gateWords = new BigUint64Array(2);

function readGate(environment: CpuEnvironment, vector: number, type: number, size: number, ext: number): Gate {
  const { state, linear } = environment;
  const error = (vector << 3) | SELECTOR_ERROR.IDT | ext;
  if (vector * size + size - 1 > state.get32(REG.IDTR_LIMIT)) throw new CpuException(VECTOR.GP, error);
  const address = state.get(REG.IDTR_BASE) + BigInt(vector * size);
  linear.readWords(address, gateWords, size / 8, true);
  const raw = gateWords[0] as bigint;
  const low = Number(raw & 0xffff_ffffn);
  const high = Number(raw >> 32n);
  const gateType = (high >>> 8) & 0x1f;
  const known =
    size === 16
      ? [DESCRIPTOR_TYPE.INTERRUPT_GATE, DESCRIPTOR_TYPE.TRAP_GATE]
      : [6, 7, DESCRIPTOR_TYPE.INTERRUPT_GATE, DESCRIPTOR_TYPE.TRAP_GATE];
  if (!known.includes(gateType as never)) throw new CpuException(VECTOR.GP, error);
  const software =
    type >= INTERRUPTION.TYPE_SOFTWARE_INTERRUPT && type !== INTERRUPTION.TYPE_PRIVILEGED_SOFTWARE_EXCEPTION;
  if (software && ((high >>> 13) & 3) < state.cpl)
    throw new CpuException(VECTOR.GP, (vector << 3) | SELECTOR_ERROR.IDT);
  if (!(high & 0x8000)) throw new CpuException(VECTOR.NP, error);
  let offset = BigInt(((low & 0xffff) | (high & 0xffff_0000)) >>> 0);
  if (size === 16) offset |= BigInt.asUintN(32, gateWords[1] as bigint) << 32n;
  return {
    selector: low >>> 16,
    offset,
    trap: (gateType & 1) !== 0,
    wide: (gateType & 8) !== 0,
    ist: size === 16 ? high & 7 : 0,
  };
}

/** Code segment of a gate, checked; the new CPL comes from it. */
function gateTarget(
  environment: CpuEnvironment,
  selector: number,
  ext: number,
): { descriptor: Descriptor; cpl: number } {
  const { state } = environment;
  if ((selector & 0xfffc) === 0) throw new CpuException(VECTOR.GP, ext);
  const descriptor = readDescriptor(environment, selector, VECTOR.GP, ext);
  const error = (selector & 0xfffc) | ext;
  const { rights } = descriptor;
  if (!(rights & RIGHTS.S) || !(rights & RIGHTS.CODE) || dplOf(rights) > state.cpl)
    throw new CpuException(VECTOR.GP, error);
  if (!(rights & RIGHTS.P)) throw new CpuException(VECTOR.NP, error);
  const conforming = (rights & RIGHTS.EXPAND_DOWN_OR_CONFORMING) !== 0;
  return { descriptor, cpl: conforming ? state.cpl : dplOf(rights) };
}

const isCanonical = (address: bigint): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(48, address)) === BigInt.asUintN(64, address);

/** EXT bit of error codes: the event did not come from the program. */
const extOf = (type: number): number =>
  type === INTERRUPTION.TYPE_SOFTWARE_INTERRUPT || type === INTERRUPTION.TYPE_SOFTWARE_EXCEPTION
    ? 0
    : SELECTOR_ERROR.EXT;

/** RIP, CS, RFLAGS, RSP, SS; an error code goes below them. */
const FRAME_WORDS = 5;
const frame = new BigUint64Array(FRAME_WORDS + 1);

function deliverLong(environment: CpuEnvironment, event: DeliveredEvent, vector: number, type: number): void {
  const { state, linear } = environment;
  const ext = extOf(type);
  const gate = readGate(environment, vector, type, 16, ext);
  const { ist } = gate;
  const { descriptor, cpl } = gateTarget(environment, gate.selector, ext);
  if (!(descriptor.rights & RIGHTS.L) || descriptor.rights & RIGHTS.DB)
    throw new CpuException(VECTOR.GP, (gate.selector & 0xfffc) | ext);
  const change = cpl < state.cpl;
  let stack = state.gpr(4);
  if (change || ist !== 0) {
    const tss = REG.SEGMENTS + SEGMENT.TR * SEG_SIZE;
    const slot = ist !== 0 ? 0x1c + ist * 8 : 4 + cpl * 8;
    if (slot + 7 > state.get32(tss + SEG.LIMIT))
      throw new CpuException(VECTOR.TS, (state.get16(tss + SEG.SELECTOR) & 0xfffc) | ext);
    stack = linear.read(state.get(tss + SEG.BASE) + BigInt(slot), 8, true);
    if (!isCanonical(stack)) throw new CpuException(VECTOR.SS, ext);
  }
  if (!isCanonical(gate.offset)) throw new CpuException(VECTOR.GP, ext);
  const ss = REG.SEGMENTS + SEGMENT.SS * SEG_SIZE;
  const cs = REG.SEGMENTS + SEGMENT.CS * SEG_SIZE;
  const words = event.errorCode === null ? FRAME_WORDS : FRAME_WORDS + 1;
  const top = BigInt.asUintN(64, (stack & ~15n) - BigInt(words * 8));
  if (!isCanonical(top)) throw new CpuException(VECTOR.SS, ext);
  let n = 0;
  if (event.errorCode !== null) frame[n++] = BigInt(event.errorCode);
  frame[n++] = BigInt.asUintN(64, state.rip + BigInt(event.instructionLength));
  frame[n++] = BigInt(state.get16(cs + SEG.SELECTOR));
  frame[n++] = savedFlags(environment, vector, type);
  frame[n++] = state.gpr(4);
  frame[n++] = BigInt(state.get16(ss + SEG.SELECTOR));
  // The frame belongs to the new privilege level, whatever the interrupted one was.
  linear.writeWords(top, frame, words, true);
  enterHandler(environment, gate, accessed(environment, descriptor, (gate.selector & 0xfffc) | cpl), cpl, type);
  state.setGpr(4, top);
  if (change) state.setSegment(SEGMENT.SS, nullSegment(cpl, cpl));
  environment.modeChanged();
}

function enterHandler(
  environment: CpuEnvironment,
  gate: Gate,
  code: ReturnType<typeof accessed>,
  cpl: number,
  type: number,
): void {
  const { state } = environment;
  let flags = state.get32(REG.FLAGS) & ~(RFLAGS.TF | RFLAGS.NT | RFLAGS.RF | RFLAGS.VM);
  if (!gate.trap) flags &= ~RFLAGS.IF;
  state.set32(REG.FLAGS, flags);
  state.setSegment(SEGMENT.CS, code);
  state.set32(REG.CPL, cpl);
  state.rip = gate.offset;
  const blocked = state.get32(REG.INTERRUPTIBILITY) & ~(BLOCKING.STI | BLOCKING.MOV_SS);
  state.set32(REG.INTERRUPTIBILITY, type === INTERRUPTION.TYPE_NMI ? blocked | BLOCKING.NMI : blocked);
}

/** 32-bit protected mode: 386 interrupt and trap gates, 16-bit gates, stack switch through a 32-bit TSS. */
function deliverProtected(environment: CpuEnvironment, event: DeliveredEvent, vector: number, type: number): void {
  const { state, linear } = environment;
  const ext = extOf(type);
  const gate = readGate(environment, vector, type, 8, ext);
  const { descriptor, cpl } = gateTarget(environment, gate.selector, ext);
  const change = cpl < state.cpl;
  const size = gate.wide ? 4 : 2;
  const ssAt = REG.SEGMENTS + SEGMENT.SS * SEG_SIZE;
  const csAt = REG.SEGMENTS + SEGMENT.CS * SEG_SIZE;
  const values: number[] = [];
  let stack = state.segment(SEGMENT.SS);
  let pointer = Number(state.gpr(4) & 0xffff_ffffn);
  if (change) {
    const tss = REG.SEGMENTS + SEGMENT.TR * SEG_SIZE;
    const tssError = (state.get16(tss + SEG.SELECTOR) & 0xfffc) | ext;
    const slot = 4 + cpl * 8;
    if (slot + 7 > state.get32(tss + SEG.LIMIT)) throw new CpuException(VECTOR.TS, tssError);
    const base = state.get(tss + SEG.BASE);
    pointer = Number(linear.read(base + BigInt(slot), 4, true));
    const selector = Number(linear.read(base + BigInt(slot + 4), 2, true));
    if ((selector & 0xfffc) === 0) throw new CpuException(VECTOR.TS, ext);
    const data = readDescriptor(environment, selector, VECTOR.TS, ext);
    const writable =
      (data.rights & (RIGHTS.S | RIGHTS.CODE | RIGHTS.WRITABLE_OR_READABLE)) ===
      (RIGHTS.S | RIGHTS.WRITABLE_OR_READABLE);
    if ((selector & 3) !== cpl || dplOf(data.rights) !== cpl || !writable)
      throw new CpuException(VECTOR.TS, (selector & 0xfffc) | ext);
    if (!(data.rights & RIGHTS.P)) throw new CpuException(VECTOR.SS, (selector & 0xfffc) | ext);
    values.push(state.get16(ssAt + SEG.SELECTOR), Number(state.gpr(4) & 0xffff_ffffn));
    stack = accessed(environment, data);
  }
  values.push(Number(savedFlags(environment, vector, type)), state.get16(csAt + SEG.SELECTOR));
  values.push(Number((state.rip + BigInt(event.instructionLength)) & 0xffff_ffffn));
  if (event.errorCode !== null) values.push(event.errorCode);
  const mask = stack.rights & RIGHTS.DB ? 0xffff_ffff : 0xffff;
  let at = pointer;
  for (const value of values) {
    at = ((at - size) & mask) >>> 0;
    linear.write(BigInt.asUintN(32, stack.base + BigInt(at)), size, BigInt(value >>> 0), true);
  }
  enterHandler(environment, gate, accessed(environment, descriptor, (gate.selector & 0xfffc) | cpl), cpl, type);
  const kept = change ? 0 : Number(state.gpr(4) & 0xffff_ffffn) & ~mask;
  state.setGpr(4, BigInt((kept | at) >>> 0));
  if (change) state.setSegment(SEGMENT.SS, stack);
  environment.modeChanged();
}
