import * as x from "../../arch/assembler/index.js";
import { COM1, IOAPIC } from "../../vmm/ports.js";
import { defineSmallTd } from "../runtime/define.js";
import type { GuestCode } from "../runtime/guest-code.js";
import { enableLocalApic } from "./timer.js";

const VECTOR = 0x41;
const SHARED_BIT = 1n << 47n;
const IOAPIC_SELECT = BigInt(IOAPIC.BASE) | SHARED_BIT;
const IOAPIC_DATA = IOAPIC_SELECT | 0x10n;
const REDIRECTION_4 = 0x10 + 2 * COM1.GSI;
const WRITE = 1;
/** Registers of the serial port, from its base. */
const IER = 1;
const FCR = 2;
const MCR = 4;
const LSR = 5;
const DATA_READY = 1;

export const echo = defineSmallTd({
  name: "echo",
  summary: "sleeps until the serial port interrupts through the IOAPIC, and echoes; q ends it",
  console: "type, q ends\n",
  outcome: undefined,
  main(code) {
    const { asm } = code;
    const handler = asm.label("handler");
    const asleep = asm.label("asleep");
    const end = asm.label("end");
    code.setGate(VECTOR, handler);
    enableLocalApic(code);
    ioApicRegister(code, REDIRECTION_4 + 1, 0);
    ioApicRegister(code, REDIRECTION_4, VECTOR);
    for (const [register, value] of [
      [FCR, 0x07],
      [MCR, 0x0b],
      [IER, 0x01],
    ] as const) {
      asm.mov(x.eax, value);
      code.out(COM1.BASE + register, 1);
    }
    code.print("type, q ends\n");

    const look = asm.here("look");
    code.in(COM1.BASE + LSR, 1);
    asm.test(x.r11b, DATA_READY);
    asm.j("e", asleep);
    code.in(COM1.BASE, 1);
    asm.mov(x.ebx, x.r11d);
    asm.mov(x.eax, x.ebx);
    code.out(COM1.BASE, 1);
    asm.cmp(x.bl, "q".charCodeAt(0));
    asm.j("e", end);
    asm.jmp(look);
    asm.bind(asleep);
    code.waitForInterrupt();
    asm.jmp(look);
    asm.bind(end);
    code.finish("\n");

    asm.bind(handler);
    code.returnFromInterrupt();
  },
});

function ioApicRegister(code: GuestCode, index: number, value: number): void {
  code.vmcall("MMIO", 4, WRITE, IOAPIC_SELECT, index);
  code.vmcall("MMIO", 4, WRITE, IOAPIC_DATA, value);
}
