import { type Assembler, eax, ecx, r10d, r11d } from "../../arch/assembler/index.js";
import { TDG, TDVMCALL, TDVMCALL_LINUX_MASK } from "../../arch/tdx-abi.js";

/**
 * TDG.VP.VMCALL of a standard function. Arguments from R12 on are the caller's to load; RAX, RCX, R10 and R11 are lost.
 * R10 is then the status, R11 the value.
 */
export function tdvmcall(asm: Assembler, name: keyof typeof TDVMCALL): void {
  asm.mov(eax, TDG.VP_VMCALL);
  asm.mov(ecx, TDVMCALL_LINUX_MASK);
  asm.xor(r10d, r10d);
  asm.mov(r11d, TDVMCALL[name]);
  asm.op("tdcall");
}

/** TDCALL of another leaf; RCX, RDX and R8 to R11 are the caller's to load. */
export function tdcall(asm: Assembler, leaf: keyof typeof TDG): void {
  asm.mov(eax, TDG[leaf]);
  asm.op("tdcall");
}
