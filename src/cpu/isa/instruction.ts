/** One decoded instruction, as instructions outside the generated executors (system instructions) see it. */
export interface Instruction {
  /** Mnemonic of the isa entry, in lower case. */
  readonly mnemonic: string;
  /** Name of the system operation that carries it out; empty for an instruction of the generated executors. */
  readonly system: string;
  /** Length in bytes, 1 to 15. */
  readonly length: number;
  /** Effective operand size in bytes: 1, 2, 4 or 8. */
  readonly operandSize: number;
  /** Effective address size in bytes: 2, 4 or 8. */
  readonly addressSize: number;
  /** Opcode byte, and opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A. */
  readonly opcode: number;
  readonly map: number;
  /** ModR/M byte, -1 if there is none. */
  readonly modrm: number;
  /** ModR/M.reg and, for mod = 3, ModR/M.rm, extended by REX. */
  readonly reg: number;
  readonly rm: number;
  /** Memory operand, null if the operand is a register or there is none. */
  readonly memory: MemoryOperand | null;
  readonly immediate: bigint;
  /** Second immediate: selector of a far pointer, nesting level of ENTER. */
  readonly immediate2: number;
  /** REX byte, 0 if there is none. */
  readonly rex: number;
  /** 0, 0xf2 or 0xf3: the last of the repeat prefixes. */
  readonly repeat: number;
  readonly lock: boolean;
  /** True if the 66 prefix was there. */
  readonly operandSizePrefix: boolean;
}

export interface MemoryOperand {
  /** Segment that applies, by number (ES CS SS DS FS GS). */
  readonly segment: number;
  /** Register numbers; -1: none. Base 16 is RIP (of the next instruction). */
  readonly base: number;
  readonly index: number;
  /** Left shift of the index: 0 to 3. */
  readonly scale: number;
  readonly displacement: bigint;
}
