/** Operand widths of the integer instructions, in bits. */
export type Width = 8 | 16 | 32 | 64;

/** A general-purpose register of one width. */
export interface Gpr<W extends Width = Width> {
  readonly kind: "gpr";
  readonly name: string;
  readonly width: W;
  /** Number in the encoding, 0 to 15. AH, CH, DH and BH have 4 to 7, like SPL, BPL, SIL and DIL. */
  readonly code: number;
  /** SPL, BPL, SIL, DIL: need a REX prefix. */
  readonly needsRex: boolean;
  /** AH, CH, DH, BH: cannot be had with a REX prefix. */
  readonly forbidsRex: boolean;
}

export interface SegmentRegister {
  readonly kind: "segment";
  readonly name: string;
  readonly code: number;
}

/** CRn or DRn. */
export interface SystemRegister {
  readonly kind: "control" | "debug";
  readonly name: string;
  readonly code: number;
}

function gpr<W extends Width>(width: W, code: number, name: string, high = false): Gpr<W> {
  const needsRex = width === 8 && !high && code >= 4 && code <= 7;
  return { kind: "gpr", name, width, code, needsRex, forbidsRex: high };
}

const segment = (code: number, name: string): SegmentRegister => ({
  kind: "segment",
  name,
  code,
});
const control = (code: number): SystemRegister => ({
  kind: "control",
  name: `cr${code}`,
  code,
});
const debug = (code: number): SystemRegister => ({
  kind: "debug",
  name: `dr${code}`,
  code,
});

export const rax = gpr(64, 0, "rax");
export const rcx = gpr(64, 1, "rcx");
export const rdx = gpr(64, 2, "rdx");
export const rbx = gpr(64, 3, "rbx");
export const rsp = gpr(64, 4, "rsp");
export const rbp = gpr(64, 5, "rbp");
export const rsi = gpr(64, 6, "rsi");
export const rdi = gpr(64, 7, "rdi");
export const r8 = gpr(64, 8, "r8");
export const r9 = gpr(64, 9, "r9");
export const r10 = gpr(64, 10, "r10");
export const r11 = gpr(64, 11, "r11");
export const r12 = gpr(64, 12, "r12");
export const r13 = gpr(64, 13, "r13");
export const r14 = gpr(64, 14, "r14");
export const r15 = gpr(64, 15, "r15");

export const eax = gpr(32, 0, "eax");
export const ecx = gpr(32, 1, "ecx");
export const edx = gpr(32, 2, "edx");
export const ebx = gpr(32, 3, "ebx");
export const esp = gpr(32, 4, "esp");
export const ebp = gpr(32, 5, "ebp");
export const esi = gpr(32, 6, "esi");
export const edi = gpr(32, 7, "edi");
export const r8d = gpr(32, 8, "r8d");
export const r9d = gpr(32, 9, "r9d");
export const r10d = gpr(32, 10, "r10d");
export const r11d = gpr(32, 11, "r11d");
export const r12d = gpr(32, 12, "r12d");
export const r13d = gpr(32, 13, "r13d");
export const r14d = gpr(32, 14, "r14d");
export const r15d = gpr(32, 15, "r15d");

export const ax = gpr(16, 0, "ax");
export const cx = gpr(16, 1, "cx");
export const dx = gpr(16, 2, "dx");
export const bx = gpr(16, 3, "bx");
export const sp = gpr(16, 4, "sp");
export const bp = gpr(16, 5, "bp");
export const si = gpr(16, 6, "si");
export const di = gpr(16, 7, "di");
export const r8w = gpr(16, 8, "r8w");
export const r9w = gpr(16, 9, "r9w");
export const r10w = gpr(16, 10, "r10w");
export const r11w = gpr(16, 11, "r11w");
export const r12w = gpr(16, 12, "r12w");
export const r13w = gpr(16, 13, "r13w");
export const r14w = gpr(16, 14, "r14w");
export const r15w = gpr(16, 15, "r15w");

export const al = gpr(8, 0, "al");
export const cl = gpr(8, 1, "cl");
export const dl = gpr(8, 2, "dl");
export const bl = gpr(8, 3, "bl");
export const spl = gpr(8, 4, "spl");
export const bpl = gpr(8, 5, "bpl");
export const sil = gpr(8, 6, "sil");
export const dil = gpr(8, 7, "dil");
export const r8b = gpr(8, 8, "r8b");
export const r9b = gpr(8, 9, "r9b");
export const r10b = gpr(8, 10, "r10b");
export const r11b = gpr(8, 11, "r11b");
export const r12b = gpr(8, 12, "r12b");
export const r13b = gpr(8, 13, "r13b");
export const r14b = gpr(8, 14, "r14b");
export const r15b = gpr(8, 15, "r15b");
export const ah = gpr(8, 4, "ah", true);
export const ch = gpr(8, 5, "ch", true);
export const dh = gpr(8, 6, "dh", true);
export const bh = gpr(8, 7, "bh", true);

export const es = segment(0, "es");
export const cs = segment(1, "cs");
export const ss = segment(2, "ss");
export const ds = segment(3, "ds");
export const fs = segment(4, "fs");
export const gs = segment(5, "gs");

export const cr0 = control(0);
export const cr2 = control(2);
export const cr3 = control(3);
export const cr4 = control(4);
export const cr8 = control(8);
export const dr0 = debug(0);
export const dr1 = debug(1);
export const dr2 = debug(2);
export const dr3 = debug(3);
export const dr6 = debug(6);
export const dr7 = debug(7);
