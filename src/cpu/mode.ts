import type { CodeMode } from "./decoder/decode.js";
import { CODE_TABLE, FPU_TRAP, LOCAL, REG, SEG, SEG_SIZE, SEGMENT, TLB } from "./layout.js";
import type { CpuState } from "./state.js";

const CR0_MP = 2;
const CR0_EM = 4;
const CR0_TS = 8;
const CR4_OSFXSR = 0x200;
const CR4_SMAP = 1 << 21;
const FLAG_AC = 1 << 18;
const RIGHTS_LONG = 1 << 13;
const RIGHTS_BIG = 1 << 14;
const EFER_LMA = 0x400;

/** Size of the code that CS and EFER select. */
export function codeMode(state: CpuState): CodeMode {
  const rights = state.get32(REG.SEGMENTS + SEGMENT.CS * SEG_SIZE + SEG.RIGHTS);
  if (state.get32(REG.EFER) & EFER_LMA && rights & RIGHTS_LONG) return 64;
  return rights & RIGHTS_BIG ? 32 : 16;
}

/** Takes the mode of the processor into the executor: TLBs in use, code table, what x87 and SSE do, the stack. */
export function enterMode(state: CpuState): CodeMode {
  const mode = codeMode(state);
  const long = mode === 64;
  const cpl = state.get32(REG.CPL);
  const cr0 = state.get32(REG.CR0);
  const cr4 = state.get32(REG.CR4);
  const overridden = (cr4 & CR4_SMAP) === 0 || (state.get32(REG.FLAGS) & FLAG_AC) !== 0;
  const dataMode = cpl === 3 ? 2 : overridden ? 1 : 0;
  state.set32(LOCAL.DATA_TLB, TLB.DATA + dataMode * TLB.DATA_ENTRIES * TLB.DATA_ENTRY_SIZE);
  state.set32(LOCAL.FETCH_TLB, TLB.FETCH + (cpl === 3 ? TLB.FETCH_ENTRIES * TLB.FETCH_ENTRY_SIZE : 0));
  state.set32(LOCAL.CODE_TABLE, long ? CODE_TABLE.LONG : CODE_TABLE.LEGACY);
  if (long) {
    state.set(LOCAL.CODE_BASE, 0n);
    state.set(LOCAL.CODE_MASK, -1n);
  } else {
    const stack = REG.SEGMENTS + SEGMENT.SS * SEG_SIZE;
    state.set(LOCAL.CODE_BASE, state.get(REG.SEGMENTS + SEGMENT.CS * SEG_SIZE + SEG.BASE));
    state.set(LOCAL.CODE_MASK, 0xffff_ffffn);
    state.set(LOCAL.STACK_BASE, state.get(stack + SEG.BASE));
    state.set(LOCAL.STACK_MASK, state.get32(stack + SEG.RIGHTS) & RIGHTS_BIG ? 0xffff_ffffn : 0xffffn);
  }
  let traps = 0;
  if (cr0 & CR0_EM || !(cr4 & CR4_OSFXSR)) traps |= FPU_TRAP.SSE_UD;
  if (cr0 & CR0_EM) traps |= FPU_TRAP.MMX_UD | FPU_TRAP.X87_NM;
  if (cr0 & CR0_TS) traps |= FPU_TRAP.SSE_NM | FPU_TRAP.X87_NM | FPU_TRAP.MMX_NM;
  if (cr0 & CR0_TS && cr0 & CR0_MP) traps |= FPU_TRAP.WAIT_NM;
  state.set32(LOCAL.FPU_TRAPS, traps);
  return mode;
}
