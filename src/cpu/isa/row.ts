import type { Meaning } from "./meaning.js";

/**
 * One row of the instruction table: encoding, operands and meaning of one instruction. The decoder, the interpreter and
 * the tests are all made from these rows.
 *
 * `opcode` is written as in the SDM: optional mandatory prefix (NP, 66, F2, F3), map (0F, 0F 38, 0F 3A), opcode byte, then
 * optionally `/n` (ModR/M.reg), `=XX` (the whole ModR/M byte), `+r` (register in the low three bits of the opcode).
 *
 * `operands` uses the letters of the SDM's opcode map: E G (general register or memory, ModR/M.reg), M (memory only),
 * R (register only, ModR/M.rm), Z (register in the opcode), I sI (immediate, sign-extended byte), J (branch), O (moffs),
 * V W U (XMM: reg, rm or memory, rm register only), P Q N (MMX likewise), S (segment register), C D (control, debug
 * register), T (x87 stack register, ModR/M.rm), A (far pointer); then the size: b w d q, v (operand size), z (operand size, at most 4), y (4 or 8),
 * dq (16). Fixed registers: AL AX eAX rAX CL DX 1.
 */
export interface IsaRow {
  readonly mnemonic: string;
  readonly opcode: string;
  readonly operands: string;
  /** What it does, against the builder. Exactly one of `meaning` and `system` is there. */
  readonly meaning?: (m: Meaning) => void;
  /** Name of the system operation (`cpu/system`) that carries it out. */
  readonly system?: string;
  /** LOCK is legal with a memory destination. */
  readonly lock?: boolean;
  /** Operand size is 64 bits by default in 64-bit mode (66 gives 16). */
  readonly default64?: boolean;
  /** Operand size is 64 bits in 64-bit mode whatever the prefixes. */
  readonly force64?: boolean;
  /** Exists only in 64-bit mode, or only outside it. */
  readonly only?: "64" | "legacy";
  /** Operand sizes in bytes whose handlers are part of the interpreter's main loop. */
  readonly hot?: readonly number[];
  /** CPUID feature that must be advertised; all rows here belong to features that we advertise. */
  readonly feature?: string;
  /** A 16-byte memory operand must be aligned (#GP). */
  readonly aligned?: boolean;
  /** Takes REP, or REP and REPNE (string instructions); there is a variant for each address size. */
  readonly repeat?: "rep" | "repe";
  /** There is a variant for each address size (LOOP, JRCXZ, XLAT). */
  readonly byAddressSize?: boolean;
  /** The operand size in bytes where no operand shows it. */
  readonly fixedSize?: number;
  /** There is a variant for each operand size although no operand shows it. */
  readonly sized?: boolean;
  /** Uses the stack: outside 64-bit mode a variant of its own. */
  readonly stack?: boolean;
  /** Does nothing at all, whatever its operands: no address is even computed. */
  readonly nothing?: boolean;
  /** Branch, call or return: ends a decoded run. */
  readonly ends?: boolean;
}

export type OperandKind =
  | "E"
  | "G"
  | "M"
  | "R"
  | "Z"
  | "I"
  | "sI"
  | "J"
  | "O"
  | "V"
  | "W"
  | "U"
  | "P"
  | "Q"
  | "N"
  | "S"
  | "T"
  | "C"
  | "D"
  | "A"
  | "fixed";

export interface OperandSpec {
  readonly kind: OperandKind;
  /** b w d q v z y dq, or empty. */
  readonly size: string;
  /** The name of a fixed register. */
  readonly fixed?: string;
}

export interface OpcodeSpec {
  readonly mandatory: "" | "NP" | "66" | "F2" | "F3";
  /** 0 one-byte, 1 0F, 2 0F38, 3 0F3A. */
  readonly map: number;
  readonly byte: number;
  /** ModR/M.reg that is part of the opcode, -1 if none. */
  readonly extension: number;
  /** Whole ModR/M byte that is part of the opcode, -1 if none. */
  readonly modrm: number;
  readonly plusRegister: boolean;
}

const FIXED = new Set(["AL", "AX", "eAX", "rAX", "CL", "DX", "1"]);

/** Parses the `operands` column. */
export function parseOperands(text: string): OperandSpec[] {
  if (text === "") return [];
  return text.split(",").map((word) => {
    if (FIXED.has(word)) return { kind: "fixed", size: "", fixed: word };
    const match = /^(sI|[EGMRZIJOVWUPQNSTCDA])([a-z]*)$/.exec(word);
    if (!match) throw new Error(`operand ${word}`);
    return { kind: match[1] as OperandKind, size: match[2] as string };
  });
}

/** Parses the `opcode` column. */
export function parseOpcode(text: string): OpcodeSpec {
  const words = text.split(" ");
  let mandatory: OpcodeSpec["mandatory"] = "";
  const first = words[0] as string;
  if (first === "NP" || ((first === "66" || first === "F2" || first === "F3") && /^[0-9A-F]{2}/.test(words[1] ?? ""))) {
    mandatory = first as OpcodeSpec["mandatory"];
    words.shift();
  }
  let map = 0;
  const opcodeFollows = (): boolean => /^[0-9A-F]{2}/.test(words[1] ?? "");
  if (words[0] === "0F" && opcodeFollows()) {
    words.shift();
    map = 1;
    const escapeByte: string | undefined = words[0];
    if ((escapeByte === "38" || escapeByte === "3A") && opcodeFollows()) {
      map = escapeByte === "38" ? 2 : 3;
      words.shift();
    }
  }
  const head = words.shift() as string;
  const plusRegister = head.endsWith("+r");
  const byte = Number.parseInt(head, 16);
  let extension = -1;
  let modrm = -1;
  for (const word of words) {
    if (word.startsWith("/")) extension = Number.parseInt(word.slice(1), 10);
    else if (word.startsWith("=")) modrm = Number.parseInt(word.slice(1), 16);
    else throw new Error(`opcode ${text}`);
  }
  return { mandatory, map, byte, extension, modrm, plusRegister };
}

/** Bytes of an operand of this size letter under an operand size. */
export function operandBytes(size: string, operandSize: number): number {
  switch (size) {
    case "b":
      return 1;
    case "w":
      return 2;
    case "d":
      return 4;
    case "q":
      return 8;
    case "v":
      return operandSize;
    case "z":
      return Math.min(operandSize, 4);
    case "y":
      return operandSize === 8 ? 8 : 4;
    case "dq":
      return 16;
    default:
      return 0;
  }
}

/** True if the row has a ModR/M byte. */
export function hasModrm(opcode: OpcodeSpec, operands: readonly OperandSpec[]): boolean {
  return (
    opcode.extension >= 0 ||
    opcode.modrm >= 0 ||
    operands.some(({ kind }) => "EGMRVWUPQNSTCD".includes(kind) && kind.length === 1)
  );
}
