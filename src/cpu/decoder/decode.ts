import { handlerTable } from "../interpreter/handlers.js";
import type { Instruction, MemoryOperand } from "../isa/instruction.js";
import { hasModrm, type OperandSpec } from "../isa/row.js";
import { type ParsedRow, rowSizes } from "../isa/variants.js";

/** A decoded instruction with the row that it matched. */
export interface Decoded extends Instruction {
  readonly row: ParsedRow;
  /** Operand size of the variant: the effective operand size fitted to the sizes that the row has. */
  readonly variantSize: number;
  /** Register number of each operand in `row.operands` that is a register, else -1; byte registers 4..7 without REX are AH..BH. */
  readonly registers: readonly number[];
  /** Displacement is relative to the next instruction. */
  readonly ripRelative: boolean;
}

/** Code mode: 64-bit, or the default size of CS. */
export type CodeMode = 64 | 32 | 16;

/** What stands in the way of decoding. */
export type DecodeFailure =
  /** More bytes are needed. */
  | "truncated"
  /** #UD. */
  | "undefined"
  /** Longer than 15 bytes: #GP(0). */
  | "too-long";

const MAX_LENGTH = 15;

interface Candidate {
  readonly row: ParsedRow;
  readonly modrm: boolean;
  readonly sizes: readonly number[];
}

let tables: Candidate[][] | undefined;

/** Rows by map * 256 + opcode byte. */
function opcodeTables(): Candidate[][] {
  if (tables) return tables;
  const built: Candidate[][] = [];
  for (const row of handlerTable().rows) {
    const { map, byte, plusRegister } = row.opcode;
    const candidate = { row, modrm: hasModrm(row.opcode, row.operands), sizes: rowSizes(row) };
    for (let n = 0; n < (plusRegister ? 8 : 1); n++) {
      const key = map * 256 + byte + n;
      const list = built[key] ?? [];
      built[key] = list;
      list.push(candidate);
    }
  }
  tables = built;
  return built;
}

const EMPTY: readonly Candidate[] = [];
const DEFAULT_SEGMENT_SS = new Set([4, 5]);
const SEGMENT_PREFIX: Readonly<Record<number, number>> = { 38: 0, 46: 1, 54: 2, 62: 3, 100: 4, 101: 5 };
const RSI = 6;
const RDI = 7;
const RBX = 3;

function fits(row: ParsedRow, modrm: number): boolean {
  const { opcode, operands } = row;
  if (opcode.modrm >= 0 && opcode.modrm !== modrm) return false;
  if (opcode.extension >= 0 && opcode.extension !== ((modrm >> 3) & 7)) return false;
  if (modrm < 0) return true;
  const register = modrm >= 0xc0;
  // Moves to and from control and debug registers take any ModR/M.mod for a register.
  if (operands.some(({ kind }) => kind === "C" || kind === "D")) return true;
  for (const { kind } of operands) {
    // ES CS SS DS FS GS are all the segment registers there are.
    if (kind === "S" && ((modrm >> 3) & 7) > 5) return false;
    if (kind === "M" && register) return false;
    if ((kind === "R" || kind === "U" || kind === "N" || kind === "T") && !register) return false;
  }
  return true;
}

/** Reads one instruction of `code` from `start`; at most `end - start` bytes are there. */
export function decode(code: Uint8Array, start: number, end: number, mode: CodeMode): Decoded | DecodeFailure {
  return new Decoder(code, start, Math.min(end, start + MAX_LENGTH), end - start, mode).decode();
}

class Decoder {
  #at: number;
  #rex = 0;
  #repeat = 0;
  #lock = false;
  #size66 = false;
  #address67 = false;
  #segment = -1;
  /** Something was asked for behind the end. */
  #missing = false;

  constructor(
    private readonly code: Uint8Array,
    private readonly start: number,
    private readonly end: number,
    private readonly available: number,
    private readonly mode: CodeMode,
  ) {
    this.#at = start;
  }

  /** Next byte, or NaN at the end. */
  #byte(): number {
    if (this.#at < this.end) return this.code[this.#at++] as number;
    this.#missing = true;
    return Number.NaN;
  }
  #unsigned(bytes: number): number {
    let value = 0;
    for (let n = 0; n < bytes; n++) value += this.#byte() * 2 ** (8 * n);
    return value;
  }
  #signed(bytes: number): number {
    const value = this.#unsigned(bytes);
    return value >= 2 ** (8 * bytes - 1) ? value - 2 ** (8 * bytes) : value;
  }
  #big(bytes: number): bigint {
    const low = this.#unsigned(4);
    const high = bytes === 8 ? this.#unsigned(4) : 0;
    if (Number.isNaN(low) || Number.isNaN(high)) return 0n;
    return BigInt.asIntN(64, BigInt(low) | (BigInt(high) << 32n));
  }
  #ranOut(): DecodeFailure {
    return this.available >= MAX_LENGTH ? "too-long" : "truncated";
  }

  /** Reads prefixes; returns the first byte behind them. */
  #prefixes(): number {
    for (;;) {
      const byte = this.#byte();
      const segment = SEGMENT_PREFIX[byte];
      if (segment !== undefined) {
        // Outside FS and GS the prefix has no meaning in 64-bit mode.
        if (this.mode !== 64 || segment >= 4) this.#segment = segment;
      } else if (byte === 0x66) this.#size66 = true;
      else if (byte === 0x67) this.#address67 = true;
      else if (byte === 0xf0) this.#lock = true;
      else if (byte === 0xf2 || byte === 0xf3) this.#repeat = byte;
      else if (this.mode === 64 && (byte & 0xf0) === 0x40) {
        this.#rex = byte;
        continue;
      } else return byte;
      this.#rex = 0;
    }
  }

  decode(): Decoded | DecodeFailure {
    let byte = this.#prefixes();
    let map = 0;
    if (byte === 0x0f) {
      byte = this.#byte();
      map = 1;
      if (byte === 0x38 || byte === 0x3a) {
        map = byte === 0x38 ? 2 : 3;
        byte = this.#byte();
      }
    }
    if (Number.isNaN(byte)) return this.#ranOut();
    const all = opcodeTables()[map * 256 + byte] ?? EMPTY;
    // 90 is NOP or PAUSE without REX.B; with it, it exchanges R8 and rAX.
    const isNop = map === 0 && byte === 0x90;
    const exchange = (this.#rex & 1) !== 0;
    const usable = all.filter(
      ({ row }) =>
        (row.source.only === undefined || (row.source.only === "64") === (this.mode === 64)) &&
        (!isNop || row.opcode.plusRegister === exchange),
    );
    if (usable.length === 0) return "undefined";
    let modrm = -1;
    if (usable.some((candidate) => candidate.modrm)) {
      modrm = this.code[this.#at] ?? -1;
      if (this.#at >= this.end) return this.#ranOut();
    }
    const candidate = this.#choose(usable, modrm);
    if (!candidate) return "undefined";
    if (candidate.modrm) this.#at++;
    return this.#operands(candidate, byte, map, candidate.modrm ? modrm : -1);
  }

  #choose(usable: readonly Candidate[], modrm: number): Candidate | undefined {
    const mandatory = this.#repeat === 0xf3 ? "F3" : this.#repeat === 0xf2 ? "F2" : this.#size66 ? "66" : "NP";
    const matching = usable.filter(({ row, modrm: has }) => fits(row, has ? modrm : -1));
    return (
      matching.find(({ row }) => row.opcode.mandatory === mandatory && row.opcode.modrm >= 0) ??
      matching.find(({ row }) => row.opcode.mandatory === "" && row.opcode.modrm >= 0) ??
      matching.find(({ row }) => row.opcode.mandatory === mandatory) ??
      matching.find(({ row }) => row.opcode.mandatory === "")
    );
  }

  #operandSize(row: ParsedRow): number {
    const { source, opcode } = row;
    const wide = (this.#rex & 8) !== 0;
    // A mandatory 66 says which instruction it is and nothing about sizes.
    const small = this.#size66 && opcode.mandatory !== "66";
    if (this.mode === 64) {
      if (source.force64) return 8;
      if (wide) return 8;
      if (small) return 2;
      return source.default64 ? 8 : 4;
    }
    if (source.force64 && source.system !== undefined) return 4;
    return (this.mode === 32) !== small ? 4 : 2;
  }

  #operands(candidate: Candidate, byte: number, map: number, modrm: number): Decoded | DecodeFailure {
    const { row, sizes } = candidate;
    const operandSize = this.#operandSize(row);
    const addressSize = this.mode === 64 ? (this.#address67 ? 4 : 8) : (this.mode === 32) !== this.#address67 ? 4 : 2;
    const variantSize = sizes.includes(operandSize)
      ? operandSize
      : sizes.length === 1
        ? (sizes[0] as number)
        : operandSize === 2 || !sizes.includes(8)
          ? 4
          : 8;
    const reg = modrm < 0 ? 0 : ((modrm >> 3) & 7) | ((this.#rex & 4) << 1);
    const rm = modrm < 0 ? 0 : (modrm & 7) | ((this.#rex & 1) << 3);
    const fixesRegister = row.operands.some(({ kind }) => kind === "C" || kind === "D");
    let memory: MemoryOperand | null = null;
    let ripRelative = false;
    if (modrm >= 0 && modrm < 0xc0 && !fixesRegister && row.opcode.modrm < 0) {
      memory = addressSize === 2 ? this.#memory16(modrm) : this.#memory(modrm);
      ripRelative = this.mode === 64 && (modrm & 0xc7) === 5;
    }
    let immediate = 0n;
    let immediate2 = 0;
    let immediates = 0;
    for (const { kind, size } of row.operands) {
      if (kind === "O") {
        const at = addressSize === 8 ? this.#big(8) : BigInt(this.#unsigned(addressSize) || 0);
        memory = { segment: this.#segment < 0 ? 3 : this.#segment, base: -1, index: -1, scale: 0, displacement: at };
        immediate = at;
      } else if (kind === "A") {
        immediate = BigInt(this.#unsigned(variantSize) || 0);
        immediate2 = this.#unsigned(2);
      } else if (kind === "I" || kind === "sI" || kind === "J") {
        const bytes = this.#immediateBytes(kind, size, variantSize);
        const value = bytes === 8 ? this.#big(8) : BigInt(this.#signed(bytes) || 0);
        if (immediates++ === 0) immediate = value;
        else immediate2 = Number(value & 0xffn);
      }
    }
    if (this.#missing) return this.#ranOut();
    if (
      row.source.repeat &&
      (row.source.mnemonic === "movs" ||
        row.source.mnemonic === "cmps" ||
        row.source.mnemonic === "lods" ||
        row.source.mnemonic === "outs")
    ) {
      memory = { segment: this.#segment < 0 ? 3 : this.#segment, base: RSI, index: -1, scale: 0, displacement: 0n };
    } else if (row.source.mnemonic === "xlat") {
      memory = { segment: this.#segment < 0 ? 3 : this.#segment, base: RBX, index: -1, scale: 0, displacement: 0n };
    } else if (row.source.mnemonic === "maskmovq" || row.source.mnemonic === "maskmovdqu") {
      memory = { segment: this.#segment < 0 ? 3 : this.#segment, base: RDI, index: -1, scale: 0, displacement: 0n };
    }
    if (this.#lock && !(row.source.lock && memory)) return "undefined";
    const registers = row.operands.map(({ kind, fixed }) => {
      if (fixed) return -1;
      if (kind === "S") return reg & 7;
      if (kind === "G" || kind === "V" || kind === "P" || kind === "C" || kind === "D") return reg;
      if (kind === "Z") return (byte & 7) | ((this.#rex & 1) << 3);
      if (kind === "R" || kind === "U" || kind === "N") return rm;
      if (kind === "T") return rm & 7;
      if (kind === "E" || kind === "W" || kind === "Q") return memory ? -1 : rm;
      return -1;
    });
    return {
      row,
      variantSize,
      registers,
      ripRelative,
      mnemonic: row.source.mnemonic,
      system: row.source.system ?? "",
      length: this.#at - this.start,
      operandSize: row.operands.some(({ size }) => size !== "") || row.source.sized ? operandSize : variantSize,
      addressSize,
      opcode: byte,
      map,
      modrm,
      reg,
      rm,
      memory,
      immediate,
      immediate2,
      rex: this.#rex,
      repeat: this.#repeat,
      lock: this.#lock,
      operandSizePrefix: this.#size66,
    };
  }

  #immediateBytes(kind: OperandSpec["kind"], size: string, operandSize: number): number {
    if (kind === "sI" || size === "b") return 1;
    if (size === "w") return 2;
    if (kind === "J") return this.mode === 64 ? 4 : Math.min(operandSize, 4);
    return size === "v" ? operandSize : Math.min(operandSize, 4);
  }

  #memory(modrm: number): MemoryOperand {
    const mod = modrm >> 6;
    let base = (modrm & 7) | ((this.#rex & 1) << 3);
    let index = -1;
    let scale = 0;
    let displacementBytes = mod === 1 ? 1 : mod === 2 ? 4 : 0;
    if ((modrm & 7) === 4) {
      const sib = this.#byte() || 0;
      scale = sib >> 6;
      index = ((sib >> 3) & 7) | ((this.#rex & 2) << 2);
      if (index === 4) {
        index = -1;
        scale = 0;
      }
      base = (sib & 7) | ((this.#rex & 1) << 3);
      if ((sib & 7) === 5 && mod === 0) {
        base = -1;
        displacementBytes = 4;
      }
    } else if ((modrm & 7) === 5 && mod === 0) {
      base = this.mode === 64 ? 16 : -1;
      displacementBytes = 4;
    }
    const displacement = displacementBytes === 0 ? 0 : this.#signed(displacementBytes);
    const segment = this.#segment >= 0 ? this.#segment : DEFAULT_SEGMENT_SS.has(base) ? 2 : 3;
    return { segment, base, index, scale, displacement: BigInt(displacement || 0) };
  }

  /** 16-bit addressing. */
  #memory16(modrm: number): MemoryOperand {
    const mod = modrm >> 6;
    const [base, index] = ADDRESS16[modrm & 7] as readonly [number, number];
    const direct = mod === 0 && (modrm & 7) === 6;
    const bytes = direct || mod === 2 ? 2 : mod === 1 ? 1 : 0;
    const displacement = bytes === 0 ? 0 : this.#signed(bytes) || 0;
    const usedBase = direct ? -1 : base;
    const segment = this.#segment >= 0 ? this.#segment : usedBase === 5 ? 2 : 3;
    return { segment, base: usedBase, index, scale: 0, displacement: BigInt(displacement) };
  }
}

/** Base and index of 16-bit addressing by ModR/M.rm: BX+SI BX+DI BP+SI BP+DI SI DI BP BX. */
const ADDRESS16: readonly (readonly [number, number])[] = [
  [3, 6],
  [3, 7],
  [5, 6],
  [5, 7],
  [6, -1],
  [7, -1],
  [5, -1],
  [3, -1],
];
