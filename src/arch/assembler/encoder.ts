import { AssemblerError } from "./assembler-error.js";
import type { CodeBuffer } from "./code-buffer.js";
import { isMemory, Label, type Memory } from "./operands.js";
import type { Gpr, Width } from "./registers.js";

export type CodeBits = 32 | 64;

/** A register in ModR/M.rm of any kind: only its number and REX needs matter. */
export type RegisterOperand = Pick<Gpr, "code" | "needsRex" | "forbidsRex">;

/** What an instruction with a ModR/M byte is made of. */
export interface ModRmInstruction {
  /** Mandatory prefix: 0x66, 0xf2 or 0xf3; it goes before REX. */
  readonly prefix?: number;
  /** Opcode bytes with their escape bytes. */
  readonly opcode: readonly number[];
  /** ModR/M.reg: a register, or the number of an opcode extension. */
  readonly reg: RegisterOperand | number;
  readonly rm: RegisterOperand | Memory;
  /** Operand width that prefixes must select; undefined: the instruction's own (no 66, no REX.W). */
  readonly width?: Width | undefined;
  /** Immediate that follows, which a RIP-relative displacement must step over. */
  readonly immediate?: {
    readonly value: bigint | number;
    readonly size: 1 | 2 | 4;
  };
}

const SEGMENT_PREFIX = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65] as const;

/** Writes prefixes, opcode, ModR/M, SIB, displacement and immediate. */
export function encodeModRm(code: CodeBuffer, bits: CodeBits, instruction: ModRmInstruction): void {
  const { prefix, opcode, reg, rm, width, immediate } = instruction;
  const memory = isMemory(rm) ? rm : undefined;
  const regOperand = typeof reg === "number" ? undefined : reg;
  const regCode = regOperand?.code ?? (reg as number);

  if (memory?.segment) code.put(SEGMENT_PREFIX[memory.segment.code] as number);
  if (memory) putAddressSizePrefix(code, bits, memory);
  if (width === 16) code.put(0x66);
  if (prefix !== undefined) code.put(prefix);
  const rmCode = memory ? (memory.base?.code ?? 0) : (rm as RegisterOperand).code;
  putRex(code, bits, {
    w: width === 64,
    r: regCode,
    x: memory?.index?.code ?? 0,
    b: rmCode,
    operands: [regOperand, memory ? undefined : (rm as RegisterOperand)],
  });
  code.put(...opcode);
  const reg3 = (regCode & 7) << 3;
  const relative = memory ? putMemory(code, bits, memory, reg3) : undefined;
  if (!memory) code.put(0xc0 | reg3 | (rmCode & 7));
  if (immediate) code.putValue(immediate.value, immediate.size);
  relative?.endAt(code.length);
}

interface RexParts {
  readonly w: boolean;
  readonly r: number;
  readonly x: number;
  readonly b: number;
  readonly operands: readonly (RegisterOperand | undefined)[];
}

/** Writes a REX prefix where one is needed. */
export function putRex(code: CodeBuffer, bits: CodeBits, parts: RexParts): void {
  const rex = (parts.w ? 8 : 0) | ((parts.r >> 3) << 2) | ((parts.x >> 3) << 1) | (parts.b >> 3);
  const needed = rex !== 0 || parts.operands.some((operand) => operand?.needsRex);
  if (!needed) return;
  if (bits === 32) throw new AssemblerError("a 64-bit operand or one of the upper registers in 32-bit code");
  if (parts.operands.some((operand) => operand?.forbidsRex)) {
    throw new AssemblerError("AH, CH, DH and BH cannot be used together with a REX prefix");
  }
  code.put(0x40 | rex);
}

function putAddressSizePrefix(code: CodeBuffer, bits: CodeBits, { base, index }: Memory): void {
  const widths = new Set([base, index].flatMap((register) => (register ? [register.width] : [])));
  if (widths.size > 1) throw new AssemblerError("base and index register must have the same width");
  const [width] = widths;
  if (width === undefined || width === bits) return;
  if (bits === 32) throw new AssemblerError("64-bit address in 32-bit code");
  code.put(0x67);
}

/** ModR/M with memory operand (SDM 2A 2.1.5). Returns the fixup of a RIP-relative displacement. */
function putMemory(code: CodeBuffer, bits: CodeBits, memory: Memory, reg3: number) {
  const { base, index, scale, displacement } = memory;
  if (displacement instanceof Label) {
    if (base || index) throw new AssemblerError("a label cannot be combined with registers");
    code.put(reg3 | 5);
    if (bits === 64) return code.putRelative(displacement, 4);
    code.putValue(displacement, 4);
    return undefined;
  }
  if (bits === 64 && (displacement > 0x7fff_ffff || displacement < -0x8000_0000)) {
    throw new AssemblerError(`displacement 0x${displacement.toString(16)} does not fit in 32 bits with a sign`);
  }
  const sib = (baseCode: number) => {
    const scaleBits = { 1: 0, 2: 1, 4: 2, 8: 3 }[scale];
    return (scaleBits << 6) | (((index?.code ?? 4) & 7) << 3) | (baseCode & 7);
  };
  if (!base) {
    // Absolute: without SIB in 32-bit code; with it in 64-bit code, where the short form is RIP-relative.
    if (bits === 32 && !index) code.put(reg3 | 5);
    else code.put(reg3 | 4, sib(5));
    code.putValue(displacement, 4);
    return undefined;
  }
  const low = base.code & 7;
  const needsDisplacement = displacement !== 0 || low === 5;
  const short = displacement >= -128 && displacement <= 127;
  const mod = !needsDisplacement ? 0 : short ? 0x40 : 0x80;
  if (index || low === 4) code.put(mod | reg3 | 4, sib(low));
  else code.put(mod | reg3 | low);
  if (needsDisplacement) code.putValue(displacement, short ? 1 : 4);
  return undefined;
}
