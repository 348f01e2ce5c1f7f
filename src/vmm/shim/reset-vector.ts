import type { Assembler, Label } from "../../arch/assembler/index.js";
import { RESET_VECTOR } from "./layout.js";

/** Ends a TD's code: at the reset vector, in 32-bit mode, a jump to `start`; INT3 before it and up to `end`. */
export function endAtResetVector(asm: Assembler, start: Label, end: number): void {
  asm.padTo(RESET_VECTOR, 0xcc);
  asm.bits = 32;
  asm.jmp(start);
  asm.padTo(end, 0xcc);
}
