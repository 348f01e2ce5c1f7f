import { PM1_CONTROL, SLEEP_TYPE_S5 } from "../../arch/acpi.js";
import * as x from "../../arch/assembler/index.js";
import { Assembler, byte, type Label, qword } from "../../arch/assembler/index.js";
import { X2APIC_MSR } from "../../arch/msr.js";
import { COM1, PM1A_CONTROL } from "../../vmm/ports.js";
import { acceptMemory } from "../../vmm/shim/accept-memory.js";
import { putFatalText, reportFatalError } from "../../vmm/shim/fatal-error.js";
import { descriptorLabels, enterLongMode, putDescriptors } from "../../vmm/shim/long-mode-entry.js";
import { endAtResetVector } from "../../vmm/shim/reset-vector.js";
import { tdvmcall } from "../../vmm/shim/tdx-calls.js";
import { SMALL_TD } from "./layout.js";

const DIRECTION_WRITE = 1;

/**
 * The code of one small TD while it is written: an assembler in 64-bit mode, with the few things that every guest does. Code
 * that a method emits loses RAX, RCX, RDX, RSI, RDI and R8 to R15 unless said otherwise.
 */
export class GuestCode {
  readonly asm = new Assembler({ origin: SMALL_TD.CODE, bits: 32 });
  readonly #strings: { readonly label: Label; readonly text: string }[] = [];
  readonly #putString = this.asm.label("putString");
  readonly #putHex = this.asm.label("putHex");
  readonly #setGate = this.asm.label("setGate");
  readonly #powerOff = this.asm.label("powerOff");

  /** Prints a text. */
  print(text: string): void {
    const label = this.asm.label("text");
    this.#strings.push({ label, text: `${text}\0` });
    this.asm.lea(x.rsi, byte(label));
    this.asm.call(this.#putString);
  }

  /** Prints the text with a zero at its end that RSI points to. */
  printAt(): void {
    this.asm.call(this.#putString);
  }

  /** Prints RAX, 16 hexadecimal digits. */
  printHex(): void {
    this.asm.call(this.#putHex);
  }

  /** The end. */
  powerOff(): void {
    this.asm.jmp(this.#powerOff);
  }

  /** Prints a text and powers off. */
  finish(text: string): void {
    this.print(text);
    this.powerOff();
  }

  /** Exceptions and interrupts of a vector go to a handler; the IDT has to be loaded too. */
  setGate(vector: number, handler: Label): void {
    this.asm.mov(x.edi, SMALL_TD.IDT + 16 * vector);
    this.asm.lea(x.rax, byte(handler));
    this.asm.call(this.#setGate);
  }

  /** TDVMCALL of a standard function with R12 to R14 as given; undefined: as they are. */
  vmcall(name: Parameters<typeof tdvmcall>[1], ...values: readonly (number | bigint | undefined)[]): void {
    const registers = [x.r12, x.r13, x.r14, x.r15];
    values.forEach((value, index) => {
      if (value !== undefined) this.asm.mov(registers[index] as x.Gpr<64>, value);
    });
    tdvmcall(this.asm, name);
  }

  /** Writes EAX to a port of `size` bytes. */
  out(port: number, size: 1 | 2 | 4): void {
    this.asm.mov(x.r15d, x.eax);
    this.vmcall("IO", size, DIRECTION_WRITE, port);
  }

  /** Reads a port into R11. */
  in(port: number, size: 1 | 2 | 4): void {
    this.vmcall("IO", size, 0, port);
  }

  /** Writes an MSR that the host emulates. The value: immediate, or what R13 holds. */
  writeMsr(index: number, value?: number | bigint): void {
    this.vmcall("WRMSR", index, value);
  }

  /** Leaves an interrupt's handler: end of interrupt, by the x2APIC register that the processor virtualises. */
  returnFromInterrupt(): void {
    const { asm } = this;
    asm.push(x.rax);
    asm.push(x.rcx);
    asm.push(x.rdx);
    asm.mov(x.ecx, X2APIC_MSR.EOI);
    asm.xor(x.eax, x.eax);
    asm.xor(x.edx, x.edx);
    asm.op("wrmsr");
    asm.pop(x.rdx);
    asm.pop(x.rcx);
    asm.pop(x.rax);
    asm.op("iretq");
  }

  /** Sleeps until an interrupt comes, and takes it. Interrupts are off before and after. */
  waitForInterrupt(): void {
    this.vmcall("HLT", 0);
    this.asm.op("sti");
    this.asm.op("nop");
    this.asm.op("cli");
  }

  /** The routines, descriptors and texts behind the code, and the reset vector. */
  complete(start: Label): Uint8Array {
    const { asm } = this;
    this.#emitPutString();
    this.#emitPutHex();
    this.#emitSetGate();
    asm.bind(this.#powerOff);
    asm.mov(x.eax, (SLEEP_TYPE_S5 << PM1_CONTROL.SLP_TYP_SHIFT) | PM1_CONTROL.SLP_EN);
    this.out(PM1A_CONTROL, 2);
    asm.jmp(this.#powerOff);
    for (const { label, text } of this.#strings) {
      asm.bind(label);
      asm.db(text);
    }
    endAtResetVector(asm, start, SMALL_TD.END);
    return asm.finish();
  }

  /** RSI: text with a zero at its end. */
  #emitPutString(): void {
    const { asm } = this;
    const next = asm.label("next");
    const end = asm.label("end");
    asm.bind(this.#putString);
    asm.bind(next);
    asm.movzx(x.eax, byte(x.rsi));
    asm.test(x.eax, x.eax);
    asm.j("e", end);
    asm.inc(x.rsi);
    this.out(COM1.BASE, 1);
    asm.jmp(next);
    asm.bind(end);
    asm.op("ret");
  }

  /** RAX: number. Keeps its digits in RDI and their count in RDX. */
  #emitPutHex(): void {
    const { asm } = this;
    const next = asm.label("next");
    const decimal = asm.label("decimal");
    asm.bind(this.#putHex);
    asm.mov(x.rdi, x.rax);
    asm.mov(x.edx, 16);
    asm.bind(next);
    asm.rol(x.rdi, 4);
    asm.mov(x.eax, x.edi);
    asm.and(x.eax, 15);
    asm.cmp(x.eax, 10);
    asm.j("b", decimal);
    asm.add(x.eax, "a".charCodeAt(0) - "0".charCodeAt(0) - 10);
    asm.bind(decimal);
    asm.add(x.eax, "0".charCodeAt(0));
    this.out(COM1.BASE, 1);
    asm.dec(x.edx);
    asm.j("ne", next);
    asm.op("ret");
  }

  /** RDI: the gate; RAX: the handler, which lies below 4 GiB. */
  #emitSetGate(): void {
    const { asm } = this;
    /** Present, DPL 0, interrupt gate, selector 0x10. */
    const low = 0x0010_0000n;
    const rights = 0x8e00n;
    asm.bind(this.#setGate);
    asm.mov(x.ecx, x.eax);
    asm.and(x.ecx, 0xffff);
    asm.or(x.ecx, low);
    asm.mov(x.dword(x.rdi), x.ecx);
    asm.and(x.eax, 0xffff_0000n);
    asm.or(x.eax, rights);
    asm.mov(x.dword(x.rdi, 4), x.eax);
    asm.mov(qword(x.rdi, 8), 0);
    asm.op("ret");
  }
}

/** Assembles a small TD: every vCPU gets to 64-bit mode; the first accepts RAM and runs `main`, the others run `others`. */
export function assembleGuest(main: (code: GuestCode) => void, others?: (code: GuestCode) => void): Uint8Array {
  const code = new GuestCode();
  const { asm } = code;
  const descriptors = descriptorLabels(asm);
  const idtr = asm.label("idtr");
  const failed = asm.label("failed");
  const text = asm.label("text");
  const notFirst = asm.label("notFirst");

  const start = asm.here("start");
  enterLongMode(asm, SMALL_TD.PAGE_TABLES, descriptors);
  asm.lidt(qword(idtr));
  asm.mov(x.eax, x.esi);
  asm.shl(x.eax, 10);
  asm.mov(x.esp, SMALL_TD.STACKS + SMALL_TD.STACK_SIZE);
  asm.add(x.rsp, x.rax);
  asm.test(x.esi, x.esi);
  asm.j("ne", notFirst);
  asm.mov(x.ebx, SMALL_TD.PARAMETERS);
  acceptMemory(asm, failed);
  main(code);

  asm.bind(failed);
  asm.mov(x.r12d, x.eax);
  reportFatalError(asm, text);

  asm.bind(notFirst);
  others?.(code);
  const asleep = asm.here("asleep");
  code.vmcall("HLT", 1);
  asm.jmp(asleep);

  putDescriptors(asm, descriptors);
  asm.bind(idtr);
  asm.dw(0xfff);
  asm.dq(SMALL_TD.IDT);
  putFatalText(asm, text, "Small TD: TDG.MEM.PAGE.ACCEPT failed");
  return code.complete(start);
}
