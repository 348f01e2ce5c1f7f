import { LVT, SVR } from "../../arch/apic.js";
import * as x from "../../arch/assembler/index.js";
import { dword } from "../../arch/assembler/index.js";
import { MSR, X2APIC_MSR } from "../../arch/msr.js";
import { defineSmallTd } from "../runtime/define.js";
import type { GuestCode } from "../runtime/guest-code.js";
import { SMALL_TD } from "../runtime/layout.js";

const VECTOR = 0x40;
const TICKS = 3;
/** TSC ticks of 1 ns. */
const PERIOD = 1_000_000;

/** Lets maskable interrupts through the local APIC. */
export function enableLocalApic(code: GuestCode): void {
  code.writeMsr(X2APIC_MSR.SVR, SVR.ENABLED | SVR.RESET);
}

export const timer = defineSmallTd({
  name: "timer",
  summary: "sets the TSC deadline timer three times and sleeps until it goes off",
  console: "tick\ntick\ntick\n",
  main(code) {
    const { asm } = code;
    const handler = asm.label("handler");
    code.setGate(VECTOR, handler);
    enableLocalApic(code);
    code.writeMsr(X2APIC_MSR.LVT_TIMER, VECTOR | (LVT.TIMER_TSC_DEADLINE << LVT.TIMER_MODE_SHIFT));
    asm.xor(x.ebx, x.ebx);

    const again = asm.here("again");
    asm.op("rdtsc");
    asm.shl(x.rdx, 32);
    asm.or(x.rdx, x.rax);
    asm.add(x.rdx, PERIOD);
    asm.mov(x.r13, x.rdx);
    code.writeMsr(MSR.IA32_TSC_DEADLINE);
    asm.inc(x.ebx);
    const asleep = asm.here("asleep");
    code.waitForInterrupt();
    asm.mov(x.edi, SMALL_TD.DATA);
    asm.cmp(dword(x.rdi), x.ebx);
    asm.j("b", asleep);
    code.print("tick\n");
    asm.cmp(x.ebx, TICKS);
    asm.j("b", again);
    code.powerOff();

    asm.bind(handler);
    asm.push(x.rdi);
    asm.mov(x.edi, SMALL_TD.DATA);
    asm.inc(dword(x.rdi));
    asm.pop(x.rdi);
    code.returnFromInterrupt();
  },
});
