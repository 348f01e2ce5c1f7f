import { handlerTable } from "../../src/cpu/interpreter/handlers.js";
import type { ParsedRow } from "../../src/cpu/isa/variants.js";

/** The rows of the instruction table that exist in a mode. */
export function allRows(mode: 64 | 32): readonly ParsedRow[] {
  const wrong = mode === 64 ? "legacy" : "64";
  return handlerTable().rows.filter(({ source }) => source.only !== wrong);
}

/** Those that the executor carries out. */
export function executedRows(mode: 64 | 32, only?: RegExp): readonly ParsedRow[] {
  return allRows(mode).filter(({ source }) => source.system === undefined && (only?.test(source.mnemonic) ?? true));
}
