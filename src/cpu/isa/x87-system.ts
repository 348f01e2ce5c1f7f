import type { IsaRow } from "./row.js";

/** x87 instructions that `cpu/system/x87` carries out: rare ones, on big integers. Each is the operation of its name. */
const row = (mnemonic: string, opcode: string, operands = "", more: Partial<IsaRow> = {}): IsaRow => ({
  mnemonic,
  opcode,
  operands,
  system: mnemonic,
  ...more,
});
const sized = { sized: true } as const;

export const x87SystemRows: readonly IsaRow[] = [
  row("fldenv", "D9 /4", "M", sized),
  row("fnstenv", "D9 /6", "M", sized),
  row("frstor", "DD /4", "M", sized),
  row("fnsave", "DD /6", "M", sized),
  row("fbld", "DF /4", "M"),
  row("fbstp", "DF /6", "M"),
  row("f2xm1", "D9 =F0"),
  row("fyl2x", "D9 =F1"),
  row("fptan", "D9 =F2"),
  row("fpatan", "D9 =F3"),
  row("fxtract", "D9 =F4"),
  row("fprem1", "D9 =F5"),
  row("fprem", "D9 =F8"),
  row("fyl2xp1", "D9 =F9"),
  row("fsincos", "D9 =FB"),
  row("fscale", "D9 =FD"),
  row("fsin", "D9 =FE"),
  row("fcos", "D9 =FF"),
];
