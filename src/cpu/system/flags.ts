import { CR4, RFLAGS } from "../../arch/x86.js";
import { invalidOpcode } from "../faults.js";
import { REG } from "../layout.js";
import type { SystemOperation } from "./environment.js";
import { flagsOf } from "./operands.js";
import { moveStack, stackAddress } from "./segments.js";
import { writableFlags } from "./transfer.js";

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
  stac: setAc(RFLAGS.AC),
  clac: setAc(0),
  popf,
};
