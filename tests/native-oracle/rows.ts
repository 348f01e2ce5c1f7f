import { handlerTable } from "../../src/cpu/interpreter/handlers.js";
import type { ParsedRow } from "../../src/cpu/isa/variants.js";

/** The rows of the instruction table that exist in a mode. */
export function allRows(mode: 64 | 32): readonly ParsedRow[] {
  const wrong = mode === 64 ? "legacy" : "64";
  return handlerTable().rows.filter(({ source }) => source.only !== wrong);
}

/**
 * System operations that a program may ask for: they do something at CPL 3, or are refused in the same way everywhere. The others
 * show the kernel's values, change the oracle's own segments, or come out differently each time.
 */
const OPERATIONS =
  /^(enter|ud|clflush|movdir64b|mov-from-sreg|push-sreg|cli|sti|hlt|in|out|mov-(to|from)-[cd]r|clts|lmsw|lgdt|lidt|lldt|ltr|invlpg|invd|wbinvd|rdmsr|wrmsr|xsetbv)$/;

/** True if an instruction of this row can be tried on the real CPU. */
export function isTried({ source }: ParsedRow): boolean {
  const x87 = /^f(?!x(save|rstor))/.test(source.mnemonic);
  return source.system === undefined || x87 || OPERATIONS.test(source.system);
}

/** The rows that are tried. */
export function triedRows(mode: 64 | 32, only?: RegExp): readonly ParsedRow[] {
  return allRows(mode).filter((row) => isTried(row) && (only?.test(row.source.mnemonic) ?? true));
}
