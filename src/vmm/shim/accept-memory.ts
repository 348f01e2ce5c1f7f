import {
  type Assembler,
  eax,
  type Label,
  qword,
  r12,
  r12d,
  r13,
  r14,
  rax,
  rbp,
  rbx,
  rcx,
  rsi,
} from "../../arch/assembler/index.js";
import { PAGE_SIZE } from "../../arch/page.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { PARAMETER } from "./parameters.js";
import { tdcall } from "./tdx-calls.js";

const LARGE_PAGE = 0x20_0000;
/** Level of TDG.MEM.PAGE.ACCEPT, in RCX[2:0]. */
export const LEVEL_2M = 1;

/** Bits 63:32 of a status: what the shim compares. */
const code = (name: keyof typeof TDX_STATUS): number => Number(TDX_STATUS[name] >> 32n);

/**
 * Accepts every range of the parameter page that RBX points to: by 2 MiB pages where the range has them and the host maps
 * them, by 4 KiB pages otherwise. Needs a stack. Goes to `failed` with bits 63:32 of the status in EAX.
 */
export function acceptMemory(asm: Assembler, failed: Label): void {
  const acceptOne = asm.label("acceptOne");
  const nextRange = asm.label("nextRange");
  const nextPage = asm.label("nextPage");
  const small = asm.label("small");
  const done = asm.label("done");

  asm.mov(rbp, qword(rbx, PARAMETER.RANGE_COUNT));
  asm.add(rbx, PARAMETER.RANGES);

  // R12: next page. R13: end of the range. R14: end of a 2 MiB block that has to be accepted by 4 KiB.
  asm.bind(nextRange);
  asm.sub(rbp, 1);
  asm.j("b", done);
  asm.mov(r12, qword(rbx));
  asm.mov(r13, qword(rbx, 8));
  asm.mov(r14, r12);
  asm.add(rbx, 16);

  asm.bind(nextPage);
  asm.cmp(r12, r13);
  asm.j("ae", nextRange);
  asm.cmp(r12, r14);
  asm.j("b", small);
  asm.test(r12d, LARGE_PAGE - 1);
  asm.j("ne", small);
  asm.mov(rax, r13);
  asm.sub(rax, r12);
  asm.cmp(rax, LARGE_PAGE);
  asm.j("b", small);

  asm.lea(rsi, qword(r12, LEVEL_2M));
  asm.lea(r14, qword(r12, LARGE_PAGE));
  asm.call(acceptOne);
  asm.cmp(eax, code("PAGE_SIZE_MISMATCH"));
  asm.j("e", small);
  asm.test(eax, eax);
  asm.j("ne", failed);
  asm.mov(r12, r14);
  asm.jmp(nextPage);

  asm.bind(small);
  asm.mov(rsi, r12);
  asm.call(acceptOne);
  asm.test(eax, eax);
  asm.j("ne", failed);
  asm.add(r12, PAGE_SIZE);
  asm.jmp(nextPage);

  // RSI: GPA and level. EAX: 0 if the page is accepted now or was before, else bits 63:32 of the status.
  const accepted = asm.label("accepted");
  asm.bind(acceptOne);
  asm.mov(rcx, rsi);
  tdcall(asm, "MEM_PAGE_ACCEPT");
  asm.shr(rax, 32);
  asm.j("e", accepted);
  asm.cmp(eax, code("OPERAND_BUSY"));
  asm.j("e", acceptOne);
  asm.cmp(eax, code("PAGE_ALREADY_ACCEPTED"));
  asm.j("ne", accepted);
  asm.xor(eax, eax);
  asm.bind(accepted);
  asm.op("ret");

  asm.bind(done);
}
