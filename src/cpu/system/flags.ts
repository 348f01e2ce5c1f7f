import { BLOCKING, CR4, RFLAGS } from "../../arch/x86.js";
import { generalProtection, invalidOpcode } from "../faults.js";
import { REG } from "../layout.js";
import type { SystemOperation } from "./environment.js";
import { flagsOf } from "./operands.js";
import { moveStack, stackAddress } from "./segments.js";
import { writableFlags } from "./transfer.js";

const iopl = (flags: number): number => (flags >> 12) & 3;

const cli: SystemOperation = (environment) => {
  const flags = flagsOf(environment);
  if (environment.state.cpl > iopl(flags)) throw generalProtection();
  environment.state.set32(REG.FLAGS, flags & ~RFLAGS.IF);
  return "next";
};

/** STI: interrupts stay blocked until the next instruction is done, if they were before. */
const sti: SystemOperation = (environment) => {
  const { state } = environment;
  const flags = flagsOf(environment);
  if (state.cpl > iopl(flags)) throw generalProtection();
  if (!(flags & RFLAGS.IF)) {
    state.set32(REG.FLAGS, flags | RFLAGS.IF);
    state.set32(REG.INTERRUPTIBILITY, state.get32(REG.INTERRUPTIBILITY) | BLOCKING.STI);
  }
  return "next";
};

/** STAC and CLAC. */
const setAc =
  (value: number): SystemOperation =>
  (environment) => {
    const { state } = environment;
    if (state.cpl !== 0) throw invalidOpcode();
    if (!(state.get32(REG.CR4) & CR4.SMAP) && !environment.controls) throw invalidOpcode();
    state.set32(REG.FLAGS, (flagsOf(environment) & ~RFLAGS.AC) | value);
    environment.modeChanged();
    return "next";
  };

const popf: SystemOperation = (environment, instruction) => {
  const { state, linear } = environment;
  const bytes = instruction.operandSize;
  const value = linear.read(stackAddress(environment, 0), bytes);
  const mask = writableFlags(environment, bytes, false);
  moveStack(environment, bytes);
  state.rflags = (state.rflags & ~mask & ~BigInt(RFLAGS.RF)) | (value & mask);
  environment.modeChanged();
  return "next";
};

export const flagOperations: Readonly<Record<string, SystemOperation>> = {
  cli,
  sti,
  stac: setAc(RFLAGS.AC),
  clac: setAc(0),
  popf,
};
