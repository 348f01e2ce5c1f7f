import {
  type Assembler,
  byte,
  type Label,
  qword,
  r8,
  r9,
  r14,
  r15,
  rax,
  rbx,
  rdi,
  rdx,
  rsi,
} from "../../arch/assembler/index.js";
import { tdvmcall } from "./tdx-calls.js";

/** Registers that carry the text of ReportFatalError, in order: 8 bytes each (td-guest-boot facts 1.3). */
const TEXT_REGISTERS = [r14, r15, rbx, rdi, rsi, r8, r9, rdx] as const;

export const FATAL_TEXT_BYTES = 8 * TEXT_REGISTERS.length;

/** Tells the host that this TD is at its end, again and again. The error code is in R12; `text` is from `putFatalText`. */
export function reportFatalError(asm: Assembler, text: Label): void {
  const again = asm.here("reportFatalError");
  asm.lea(rax, byte(text));
  TEXT_REGISTERS.forEach((register, index) => {
    asm.mov(register, qword(rax, 8 * index));
  });
  tdvmcall(asm, "REPORT_FATAL_ERROR");
  asm.jmp(again);
}

export function putFatalText(asm: Assembler, label: Label, text: string): void {
  if (text.length > FATAL_TEXT_BYTES) throw new RangeError(`"${text}" is longer than ${FATAL_TEXT_BYTES} bytes`);
  asm.align(8);
  asm.bind(label);
  asm.db(text.padEnd(FATAL_TEXT_BYTES, "\0"));
}
