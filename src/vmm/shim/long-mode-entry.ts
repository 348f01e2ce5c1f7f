import {
  type Assembler,
  cr0,
  cr3,
  cr4,
  ds,
  dword,
  eax,
  es,
  type Label,
  qword,
  ss,
} from "../../arch/assembler/index.js";
import { CR0, CR4 } from "../../arch/x86.js";

/** Selectors of the GDT below; the kernel's boot protocol wants just these two (td-guest-boot facts 2.9). */
export const SELECTOR = { CODE64: 0x10, DATA: 0x18 } as const;

/**
 * From the reset vector's state (32-bit, flat segments, paging off, EFER.LME already 1) to 64-bit mode with flat segments
 * and an empty IDT. ESI, the vCPU's index, and EBX, the GPA width, are kept; EAX is lost. A TD must not write EFER.
 * What is assembled next runs in 64-bit mode.
 */
export function enterLongMode(asm: Assembler, pageTables: number, descriptors: Descriptors): void {
  const longMode = asm.label("longMode");
  asm.mov(eax, cr4);
  asm.or(eax, CR4.PAE);
  asm.mov(cr4, eax);
  asm.mov(eax, pageTables);
  asm.mov(cr3, eax);
  asm.mov(eax, cr0);
  asm.or(eax, CR0.PG);
  asm.mov(cr0, eax);
  asm.lgdt(dword(descriptors.gdtr));
  asm.jmpFar(SELECTOR.CODE64, longMode);

  asm.bits = 64;
  asm.bind(longMode);
  asm.mov(eax, SELECTOR.DATA);
  asm.mov(ds, eax);
  asm.mov(es, eax);
  asm.mov(ss, eax);
  asm.lidt(qword(descriptors.emptyIdtr));
}

/** Places of the tables that `putDescriptors` writes. */
export interface Descriptors {
  readonly gdtr: Label;
  readonly emptyIdtr: Label;
}

export function descriptorLabels(asm: Assembler): Descriptors {
  return { gdtr: asm.label("gdtr"), emptyIdtr: asm.label("emptyIdtr") };
}

/** GDT with a 64-bit code and a data segment, the operand of its LGDT, and one of LIDT that makes any exception a shutdown. */
export function putDescriptors(asm: Assembler, { gdtr, emptyIdtr }: Descriptors): void {
  asm.align(8);
  const gdt = asm.here("gdt");
  asm.dq(0n, 0n);
  asm.dq(0x00af_9b00_0000_ffffn); // 0x10: code, 64-bit, DPL 0
  asm.dq(0x00cf_9300_0000_ffffn); // 0x18: data, flat, DPL 0
  asm.bind(gdtr);
  asm.dw(4 * 8 - 1);
  asm.dd(gdt);
  asm.align(8);
  asm.bind(emptyIdtr);
  asm.dw(0);
  asm.dq(0n);
}
