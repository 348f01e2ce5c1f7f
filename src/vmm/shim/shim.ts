import { Assembler, eax, ebp, ebx, edi, esi, esp, qword, r12d, rax, rbx, rsi } from "../../arch/assembler/index.js";
import { acceptMemory } from "./accept-memory.js";
import { putFatalText, reportFatalError } from "./fatal-error.js";
import { PAGE_SIZE, SHIM } from "./layout.js";
import { descriptorLabels, enterLongMode, putDescriptors } from "./long-mode-entry.js";
import { waitAtMailbox } from "./mailbox.js";
import { PARAMETER } from "./parameters.js";
import { endAtResetVector } from "./reset-vector.js";

/**
 * The code page of the direct-boot shim, with the reset vector at its end: 64-bit mode, accept memory, jump to the kernel's
 * 64-bit entry with RSI = boot_params. vCPUs other than the first wait at the mailbox.
 */
export function assembleShim(): Uint8Array {
  const asm = new Assembler({ origin: SHIM.CODE, bits: 32 });
  const descriptors = descriptorLabels(asm);
  const text = asm.label("text");
  const failed = asm.label("failed");
  const park = asm.label("park");

  const start = asm.here("start");
  enterLongMode(asm, SHIM.PAGE_TABLES, descriptors);
  asm.test(esi, esi);
  asm.j("ne", park);
  asm.mov(esp, SHIM.STACK + PAGE_SIZE);
  asm.mov(ebx, SHIM.PARAMETERS);
  acceptMemory(asm, failed);

  asm.mov(ebx, SHIM.PARAMETERS);
  asm.mov(rsi, qword(rbx, PARAMETER.BOOT_PARAMS));
  asm.mov(rax, qword(rbx, PARAMETER.KERNEL_ENTRY));
  asm.xor(ebx, ebx);
  asm.xor(ebp, ebp);
  asm.xor(edi, edi);
  asm.op("cld");
  asm.jmp(rax);

  asm.bind(failed);
  asm.mov(r12d, eax);
  reportFatalError(asm, text);

  asm.bind(park);
  waitAtMailbox(asm);

  putDescriptors(asm, descriptors);
  putFatalText(asm, text, "Seamless shim: TDG.MEM.PAGE.ACCEPT failed");

  endAtResetVector(asm, start, SHIM.CODE + PAGE_SIZE);
  return asm.finish();
}
