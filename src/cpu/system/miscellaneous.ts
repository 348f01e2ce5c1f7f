import { CR4, RIGHTS } from "../../arch/x86.js";
import { CpuException, generalProtection, VECTOR } from "../faults.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { isCanonical, requirePrivilege, setEdxEax, setGpr } from "./operands.js";
import { moveStack, stackAddress } from "./segments.js";

const rdtsc: SystemOperation = (environment) => {
  const { state } = environment;
  if (state.get32(REG.CR4) & CR4.TSD) requirePrivilege(environment);
  setEdxEax(environment, environment.tsc());
  return "next";
};

const rdtscp: SystemOperation = (environment, instruction) => {
  rdtsc(environment, instruction);
  environment.state.setGpr(1, environment.state.get(REG.TSC_AUX) & 0xffff_ffffn);
  return "next";
};

/** RDRAND and RDSEED always have a value: CF = 1, the other status flags 0. */
const random: SystemOperation = (environment, instruction) => {
  const { state } = environment;
  setGpr(environment, instruction.rm, instruction.operandSize, environment.random64());
  state.rflags = (state.rflags & ~0x8d5n) | 1n;
  return "next";
};

const invlpg: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const flush = (): void => environment.flushPage(environment.linearAddress(instruction, 1));
  try {
    flush();
  } catch (thrown) {
    // In 64-bit mode an address that is not canonical makes it do nothing.
    if (!(thrown instanceof CpuException) || !environment.state.longMode) throw thrown;
  }
  return "next";
};

const INVPCID_ADDRESS = 0n;
const INVPCID_CONTEXT = 1n;
const INVPCID_TYPES = 4n;

const invpcid: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const raw = environment.state.gpr(instruction.reg);
  const type = environment.state.longMode ? raw : raw & 0xffff_ffffn;
  const address = environment.linearAddress(instruction, 16);
  const low = environment.linear.read(address, 8);
  const linear = environment.linear.read(address + 8n, 8);
  if (type >= INVPCID_TYPES || low >> 12n) throw generalProtection();
  const single = type === INVPCID_ADDRESS || type === INVPCID_CONTEXT;
  if (single && low !== 0n && !(environment.state.get32(REG.CR4) & CR4.PCIDE)) throw generalProtection();
  if (type === INVPCID_ADDRESS && !isCanonical(linear)) throw generalProtection();
  environment.flushAll();
  return "next";
};

const LINE = 64;

/** MOVDIR64B: reads 64 bytes anywhere, writes a whole line. */
const movdir64b: SystemOperation = (environment, instruction) => {
  const { state, linear } = environment;
  const bytes = linear.readBytes(environment.linearAddress(instruction, LINE), LINE);
  const size = instruction.addressSize;
  const destination = BigInt.asUintN(size * 8, state.gpr(instruction.reg));
  if (destination & BigInt(LINE - 1)) throw generalProtection();
  linear.writeBytes(destination, bytes);
  return "next";
};

const RBP = 5;

/** Linear address of an offset in the stack segment. */
function enclosing({ state }: CpuEnvironment, offset: bigint): bigint {
  if (state.longMode) {
    if (!isCanonical(offset)) throw new CpuException(VECTOR.SS, 0);
    return BigInt.asUintN(64, offset);
  }
  const ss = REG.SEGMENTS + SEGMENT.SS * SEG_SIZE;
  const mask = state.get32(ss + SEG.RIGHTS) & RIGHTS.DB ? 0xffff_ffffn : 0xffffn;
  return BigInt.asUintN(32, (offset & mask) + state.get(ss + SEG.BASE));
}

/** ENTER: nesting levels copy frame pointers of the enclosing procedures. */
const enter: SystemOperation = (environment, instruction) => {
  const { state, linear } = environment;
  const bytes = instruction.operandSize;
  const allocate = Number(instruction.immediate & 0xffffn);
  const level = instruction.immediate2 & 31;
  // As a pointer RBP is as wide as the stack's addresses, whatever the operand size.
  const frame = state.gpr(RBP);
  linear.write(stackAddress(environment, -bytes), bytes, BigInt.asUintN(bytes * 8, frame));
  const top = BigInt.asUintN(bytes * 8, state.gpr(4) - BigInt(bytes));
  let pushed = bytes;
  for (let n = 1; n < level; n++) {
    const value = linear.read(enclosing(environment, frame - BigInt(n * bytes)), bytes);
    pushed += bytes;
    linear.write(stackAddress(environment, -pushed), bytes, value);
  }
  if (level > 0) {
    pushed += bytes;
    linear.write(stackAddress(environment, -pushed), bytes, top);
  }
  linear.probeWrite(stackAddress(environment, -pushed - allocate), 1);
  setGpr(environment, RBP, bytes, top);
  moveStack(environment, -pushed - allocate);
  return "next";
};

export const miscellaneousOperations: Readonly<Record<string, SystemOperation>> = {
  rdtsc,
  rdtscp,
  rdrand: random,
  rdseed: random,
  invlpg,
  invpcid,
  movdir64b,
  enter,
};
