import type { I32, I64, V128 } from "../../wasm/expression.js";
import type { FunctionBuilder, FunctionReference } from "../../wasm/function.js";
import type { FpuRuntime } from "../fpu/runtime.js";
import type { VectorRuntime } from "./vector-runtime.js";

/** Condition codes in the order of the encoding (Jcc, SETcc, CMOVcc). */
export const CONDITION = [
  "o",
  "no",
  "b",
  "ae",
  "e",
  "ne",
  "be",
  "a",
  "s",
  "ns",
  "p",
  "np",
  "l",
  "ge",
  "le",
  "g",
] as const;
export type Condition = (typeof CONDITION)[number];

/** Status flags given one by one; what is absent keeps its value. `zero`, `sign` and `parity` are taken from `result`. */
export interface FlagValues {
  /** 0 or 1. */
  readonly carry?: I32;
  readonly overflow?: I32;
  readonly adjust?: I32;
  /** Sign-extended result from which ZF, SF and PF follow. */
  readonly result?: I64;
}

/** Functions of the generated module that meanings call. */
export interface Runtime extends VectorRuntime, FpuRuntime {
  /** High 64 bits of the unsigned product. */
  readonly multiplyHigh: FunctionReference<readonly ["i64", "i64"], "i64">;
  /** Quotient of (high:low) / divisor, high < divisor; the remainder is left in LOCAL.SCRATCH. */
  readonly divide128: FunctionReference<readonly ["i64", "i64", "i64"], "i64">;
  readonly [name: string]: FunctionReference;
}

/**
 * What a row's meaning is written against. Integer values are i64, sign-extended from their size unless said otherwise.
 * Rules: all memory accesses before the first change of a register or flag; a value that is used after a change, or
 * more than once, is a temporary (`read`, `update`, `load` and `register` give temporaries already).
 */
export interface Meaning {
  readonly f: FunctionBuilder;
  readonly runtime: Runtime;
  /** Operand size in bytes. */
  readonly size: number;
  /** Address size in bytes is known at run time only; true if the operand that can be memory is memory. */
  readonly memory: boolean;

  /** Operand n, sign-extended (or zero-extended). */
  read(n: number): I64;
  readUnsigned(n: number): I64;
  /** Operand n which will be written too: memory is probed for writing. */
  update(n: number): I64;
  /** Writes operand n. A memory operand that was not `update`d is probed first. A 32-bit register is zero-extended. */
  write(n: number, value: I64): void;
  /** For a write whose value needs work before it is known: probes the memory operand now. */
  prepareWrite(n: number): void;
  /** Address of the instruction's record. */
  record(): I32;
  /** Size of operand n in bytes. */
  bytes(n: number): number;
  /** Immediate as it stands in the record (sign-extended). */
  immediate(): I64;

  /** Effective address of the memory operand: offset in its segment, or linear address. */
  offset(): I64;
  linear(): I64;
  /** Linear address at a distance in bytes from the memory operand. */
  linearAt(distance: I64): I64;
  /** `linear` computed anew: for string instructions, whose registers move. */
  currentLinear(): I64;

  /** General register by number. */
  register(index: number, bytes: number, unsigned?: boolean): I64;
  setRegister(index: number, bytes: number, value: I64): void;

  /** Memory by linear address. */
  load(address: I64, bytes: number, unsigned?: boolean): I64;
  /** Probes for writing, then stores. */
  store(address: I64, bytes: number, value: I64): void;
  /** Loads with the intent to write; `storeBack` writes to the same place. One at a time. */
  loadForUpdate(address: I64, bytes: number): I64;
  storeBack(bytes: number, value: I64): void;
  /** WebAssembly address for an access; LOCAL.BOUNCE_READ or LOCAL.BOUNCE when it cannot be made in place. */
  readAddress(address: I64, bytes: number): I32;
  writeAddress(address: I64, bytes: number): I32;
  /** To be called after stores through `writeAddress`. */
  finishWrite(target: I32): void;
  load128(address: I64, aligned: boolean): V128;
  store128(address: I64, value: V128, aligned: boolean): void;

  /** XMM or MMX operand n (16, 8 or 4 bytes; what memory does not give is zero). */
  readVector(n: number): V128;
  /** Writes a whole XMM register or 16 bytes of memory. */
  writeVector(n: number, value: V128): void;
  /** WebAssembly address of XMM or MMX register operand n; 16 * i for an x87 register ST(i). */
  vectorAddress(n: number): I32;

  /** x + y (+ carry) = s. */
  flagsAdd(x: I64, y: I64, s: I64): void;
  /** a - b (- borrow) = r. */
  flagsSubtract(a: I64, b: I64, r: I64): void;
  /** CF = OF = AF = 0. */
  flagsLogic(r: I64): void;
  setFlags(values: FlagValues): void;
  /** All six from their bits in RFLAGS (SAHF, POPF, COMISS). */
  setFlagBits(bits: I64): void;
  flagBits(): I64;
  condition(code: Condition): I32;

  /** Pushes on the stack of the current mode: `push` commits RSP at once, so it comes last. */
  push(value: I64, bytes: number): void;
  /** Address of the value at the top of the stack, and the change of RSP by that many bytes. */
  stackTop(bytes?: number): I64;
  addStack(bytes: number | I64): void;

  /** Linear address of the next instruction (offset in CS). */
  nextRip(): I64;
  /** Goes to the target of the relative branch. */
  branch(): void;
  branchIf(condition: I32): void;
  /** Goes to an offset in CS; not canonical or beyond the limit: #GP(0). */
  jump(target: I64): void;
  /** Checks what `jump` checks, before something is changed. */
  checkTarget(target: I64): void;

  /** Raises an exception instead of completing. */
  raise(vector: number, errorCode?: number): void;
  raiseIf(condition: I32, vector: number, errorCode?: number): void;
  /** Leaves with the exception that a runtime function has raised, if it says so. */
  fault(raised: I32): void;
  /** #NM, #UD and pending x87 errors that the SSE, MMX and x87 instructions have in common. */
  requireSse(): void;
  requireX87(): void;
  requireMmx(): void;

  /** Ticks that may still be spent on further iterations of a string instruction, and their account. */
  budget(): I32;
  setBudget(value: I32): void;
  /** Leaves the executor with the instruction not completed, to be continued (`rep` out of budget). */
  interrupt(): void;
  /** Blocks interrupts until the next instruction is done (STI); a waiting interrupt then ends the slice. */
  shadowNext(): void;
  /** REP prefix of this variant. */
  readonly repeat: "" | "rep" | "repne";
  /** Address size in bytes of this variant (string instructions and the like have one variant per size). */
  readonly addressSize: number;
}
