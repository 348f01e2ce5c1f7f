import { type IsaRow, type OpcodeSpec, type OperandSpec, operandBytes, parseOpcode, parseOperands } from "./row.js";

/**
 * How the address of a memory operand is made.
 * "base": base + displacement, flat segment, 64-bit addresses.
 * "index": base + index * scale + displacement + segment base, 64-bit addresses.
 * "any": whatever the record says, 16- and 32-bit addresses and segment limits included.
 */
export type Addressing = "none" | "base" | "index" | "any";

/** One handler of the executor: a row under one operand size, operand form and addressing. */
export interface Variant {
  readonly row: ParsedRow;
  /** Operand size in bytes. */
  readonly size: number;
  readonly addressing: Addressing;
  readonly repeat: "" | "rep" | "repne";
  /** Address size in bytes where the row asks for it, else 0. */
  readonly addressSize: number;
  /** Outside 64-bit mode, where that makes a difference to the row. */
  readonly legacy: boolean;
  /** Part of the main loop. */
  readonly hot: boolean;
}

export interface ParsedRow {
  readonly source: IsaRow;
  readonly opcode: OpcodeSpec;
  readonly operands: readonly OperandSpec[];
  /** Index of the operand that can be memory, -1 if none. */
  readonly memoryOperand: number;
}

export function parseRow(source: IsaRow): ParsedRow {
  const operands = parseOperands(source.operands);
  const memoryOperand = operands.findIndex(({ kind }) => ["E", "M", "O", "W", "Q"].includes(kind));
  return { source, opcode: parseOpcode(source.opcode), operands, memoryOperand };
}

/** Sizes of the fixed registers that have one size. */
const FIXED_BYTES: Readonly<Record<string, number>> = { AL: 1, AX: 2, DX: 2 };

/** Operand sizes in bytes under which a row has variants. */
export function rowSizes(row: ParsedRow): readonly number[] {
  const { source, operands } = row;
  const letters = operands.map(({ size }) => size);
  if (
    source.sized ||
    letters.includes("v") ||
    letters.includes("z") ||
    operands.some(({ fixed }) => fixed === "rAX" || fixed === "eAX")
  ) {
    return source.only === "legacy" ? [2, 4] : [2, 4, 8];
  }
  if (letters.includes("y")) return source.only === "legacy" ? [4] : [4, 8];
  if (source.fixedSize) return [source.fixedSize];
  const fixed = operands.find(
    (operand) => operand.fixed !== undefined && operand.fixed !== "1" && operand.fixed !== "CL",
  )?.fixed;
  if (fixed !== undefined && fixed in FIXED_BYTES) return [FIXED_BYTES[fixed] as number];
  const first = operands.find(({ kind }) => kind !== "I" && kind !== "sI");
  return [first ? operandBytes(first.size, 4) || 4 : 4];
}

/** All handlers of a row. */
export function rowVariants(row: ParsedRow): Variant[] {
  const { source, operands } = row;
  if (source.system) return [];
  const kind = operands[row.memoryOperand]?.kind;
  const variants: Variant[] = [];
  for (const size of rowSizes(row)) {
    const hot = source.hot?.includes(size) ?? false;
    const forms: Addressing[] = [];
    if (kind !== "M" && kind !== "O") forms.push("none");
    if (kind) forms.push(...(hot ? (["base", "index", "any"] as const) : (["any"] as const)));
    const repeats: Variant["repeat"][] = source.repeat
      ? source.repeat === "rep"
        ? ["", "rep"]
        : ["", "rep", "repne"]
      : [""];
    const addressSizes = source.repeat || source.byAddressSize ? (source.only === "legacy" ? [2, 4] : [2, 4, 8]) : [0];
    const modes = source.stack
      ? source.only === "64"
        ? [false]
        : source.only === "legacy"
          ? [true]
          : [false, true]
      : [false];
    for (const addressing of forms)
      for (const repeat of repeats)
        for (const addressSize of addressSizes)
          for (const legacy of modes) {
            if (legacy && size === 8) continue;
            variants.push({
              row,
              size,
              addressing,
              repeat,
              addressSize,
              legacy,
              hot: hot && addressing !== "any" && !legacy,
            });
          }
  }
  return variants;
}
