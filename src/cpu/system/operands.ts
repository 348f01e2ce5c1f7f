import { generalProtection } from "../faults.js";
import type { Instruction } from "../isa/instruction.js";
import { REG } from "../layout.js";
import type { CpuEnvironment } from "./environment.js";

/** #GP(0) unless the CPL is 0. */
export function requirePrivilege(environment: CpuEnvironment): void {
  if (environment.state.cpl !== 0) throw generalProtection();
}

export function setGpr(environment: CpuEnvironment, register: number, bytes: number, value: bigint): void {
  const { state } = environment;
  if (bytes === 8) state.setGpr(register, BigInt.asUintN(64, value));
  else if (bytes === 4) state.setGpr(register, value & 0xffff_ffffn);
  else state.setGpr(register, (state.gpr(register) & ~0xffffn) | (value & 0xffffn));
}

/** The r/m operand, zero-extended. */
export function readRm(environment: CpuEnvironment, instruction: Instruction, bytes: number): bigint {
  if (instruction.memory) return environment.linear.read(environment.linearAddress(instruction, bytes), bytes);
  return BigInt.asUintN(bytes * 8, environment.state.gpr(instruction.rm));
}

export function writeRm(environment: CpuEnvironment, instruction: Instruction, bytes: number, value: bigint): void {
  if (instruction.memory) environment.linear.write(environment.linearAddress(instruction, bytes), bytes, value);
  else setGpr(environment, instruction.rm, bytes, value);
}

/** Address of the next instruction. */
export function nextRip(environment: CpuEnvironment, instruction: Instruction): bigint {
  const next = environment.state.rip + BigInt(instruction.length);
  return environment.state.longMode ? BigInt.asUintN(64, next) : next & 0xffff_ffffn;
}

export const isCanonical = (address: bigint): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(48, address)) === BigInt.asUintN(64, address);

/** EDX:EAX as one value, and back. */
export function edxEax(environment: CpuEnvironment): bigint {
  return ((environment.state.gpr(2) & 0xffff_ffffn) << 32n) | (environment.state.gpr(0) & 0xffff_ffffn);
}
export function setEdxEax(environment: CpuEnvironment, value: bigint): void {
  environment.state.setGpr(0, value & 0xffff_ffffn);
  environment.state.setGpr(2, (value >> 32n) & 0xffff_ffffn);
}

/** System flags of RFLAGS as a number (bits below 32). */
export const flagsOf = (environment: CpuEnvironment): number => environment.state.get32(REG.FLAGS);
