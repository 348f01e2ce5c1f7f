import { isaRows } from "../isa/rows.js";
import { type Addressing, type ParsedRow, parseRow, rowVariants, type Variant } from "../isa/variants.js";

/** Handlers that no single row of the instruction table stands behind. */
export const PSEUDO_HANDLER = {
  /** Nothing valid is here any more: look the instruction pointer up again. */
  INVALID: 0,
  /** A system instruction: leave. */
  SYSTEM: 1,
  /** Not an instruction: go on at TARGET. */
  GOTO: 2,
  /** Not an instruction: look up PAGE_BASE + OFFSET. */
  CONTINUE: 3,
  /** An instruction that crosses into the next page: its record is TARGET if that page is still the one in IMMEDIATE. */
  CROSSING: 4,
  /** Raise the exception with vector IMMEDIATE[7:0] and, unless IMMEDIATE is negative, error code 0. */
  RAISE: 5,
  /** Break point: leave. */
  BREAK: 6,
  /** An instruction that does nothing. */
  NOTHING: 7,
} as const;
export const PSEUDO_HANDLERS = 8;

export interface HandlerTable {
  readonly rows: readonly ParsedRow[];
  /** Handlers in the order of their numbers, from PSEUDO_HANDLERS on; those of the main loop first. */
  readonly variants: readonly Variant[];
  readonly hotCount: number;
  /** Number of a handler by row and `variantKey`. */
  readonly numbers: ReadonlyMap<ParsedRow, ReadonlyMap<number, number>>;
}

const ADDRESSING_INDEX: Readonly<Record<Addressing, number>> = { none: 0, base: 1, index: 2, any: 3 };
const REPEAT_INDEX = { "": 0, rep: 1, repne: 2 } as const;

/** What tells the handlers of one row apart, as a number. Sizes are powers of two up to 16, or 0. */
export function variantKey(
  size: number,
  addressing: Addressing,
  repeat: keyof typeof REPEAT_INDEX,
  addressSize: number,
  legacy: boolean,
): number {
  return (
    size |
    (addressSize << 5) |
    (ADDRESSING_INDEX[addressing] << 10) |
    (REPEAT_INDEX[repeat] << 12) |
    (legacy ? 1 << 14 : 0)
  );
}

let table: HandlerTable | undefined;

/** The handlers of all rows, numbered. */
export function handlerTable(): HandlerTable {
  if (table) return table;
  const rows = isaRows().map(parseRow);
  const all = rows.flatMap(rowVariants);
  const variants = [...all.filter(({ hot }) => hot), ...all.filter(({ hot }) => !hot)];
  const numbers = new Map<ParsedRow, Map<number, number>>();
  variants.forEach((variant, n) => {
    const ofRow = numbers.get(variant.row) ?? new Map<number, number>();
    numbers.set(variant.row, ofRow);
    const { size, addressing, repeat, addressSize, legacy } = variant;
    ofRow.set(variantKey(size, addressing, repeat, addressSize, legacy), PSEUDO_HANDLERS + n);
  });
  table = { rows, variants, hotCount: all.filter(({ hot }) => hot).length, numbers };
  return table;
}
