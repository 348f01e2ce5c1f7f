import { INTERRUPTIBILITY } from "../../arch/vmx.js";
import { REG } from "../../cpu/layout.js";
import type { Run } from "./run.js";

const RFLAGS_TF = 1n << 8n;
const PENDING_DEBUG_BS = 1n << 14n;
const WORD = 0xffff_ffffn;

/** Moves RIP behind the instruction that was emulated, with what completing an instruction entails. */
export function advance(run: Run, length: number): void {
  const { state } = run.cpu;
  const next = state.rip + BigInt(length);
  state.rip = state.longMode ? BigInt.asUintN(64, next) : next & WORD;
  const blocking = state.get32(REG.INTERRUPTIBILITY);
  if (blocking & (INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS)) {
    state.set32(REG.INTERRUPTIBILITY, blocking & ~(INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS));
  }
  if (state.get(REG.FLAGS) & RFLAGS_TF) state.set(REG.PENDING_DEBUG, state.get(REG.PENDING_DEBUG) | PENDING_DEBUG_BS);
}
