import { MAILBOX } from "../../arch/acpi.js";
import { type Assembler, dword, ebx, esi, qword, r12d, rax, rbx, word } from "../../arch/assembler/index.js";
import { SHIM } from "./layout.js";
import { PARAMETER } from "./parameters.js";
import { tdvmcall } from "./tdx-calls.js";

/**
 * Where vCPUs other than the first wait, in 64-bit mode, interrupts off: for the kernel's wakeup command at the mailbox
 * (ACPI 5.2.12.19), or for good if there is no mailbox. ESI is the vCPU's index, which is its APIC id.
 */
export function waitAtMailbox(asm: Assembler): void {
  const sleep = asm.label("sleep");
  const look = asm.label("look");
  asm.mov(ebx, SHIM.PARAMETERS);
  asm.mov(rbx, qword(rbx, PARAMETER.MAILBOX));
  asm.test(rbx, rbx);
  asm.j("e", sleep);

  asm.bind(look);
  asm.op("pause");
  asm.cmp(word(rbx, MAILBOX.COMMAND), MAILBOX.COMMAND_WAKEUP);
  asm.j("ne", look);
  asm.cmp(dword(rbx, MAILBOX.APIC_ID), esi);
  asm.j("ne", look);
  asm.mov(rax, qword(rbx, MAILBOX.WAKEUP_VECTOR));
  asm.mov(word(rbx, MAILBOX.COMMAND), MAILBOX.COMMAND_NOOP);
  asm.jmp(rax);

  // R12 = 1: no maskable interrupt is to wake this vCPU.
  asm.bind(sleep);
  asm.mov(r12d, 1);
  tdvmcall(asm, "HLT");
  asm.jmp(sleep);
}
