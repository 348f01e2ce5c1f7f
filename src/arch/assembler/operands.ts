import { AssemblerError } from "./assembler-error.js";
import type { Gpr, SegmentRegister, Width } from "./registers.js";

/** A place in the code that instructions and data can refer to before it is known. */
export class Label {
  /** Linear address, once the label is bound. */
  address: number | undefined;

  constructor(readonly name: string) {}
}

/** An immediate: signed or unsigned, as long as its bits fit. */
export type Immediate = bigint | number;

/** A memory operand. `W` is the width of what lies there. */
export interface Memory<W extends Width = Width> {
  readonly kind: "memory";
  readonly width: W;
  readonly base: Gpr<32 | 64> | undefined;
  readonly index: Gpr<32 | 64> | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  /** A label is reached relative to RIP in 64-bit code, by its absolute address in 32-bit code. */
  readonly displacement: number | Label;
  readonly segment: SegmentRegister | undefined;
}

/** How a memory operand is put together beside its base register. */
export interface MemoryParts {
  readonly index?: Gpr<32 | 64>;
  readonly scale?: 1 | 2 | 4 | 8;
  readonly displacement?: number;
  readonly segment?: SegmentRegister;
}

type MemoryMaker<W extends Width> = (place: Gpr<32 | 64> | Label | number, parts?: MemoryParts | number) => Memory<W>;

function memoryOf<W extends Width>(width: W): MemoryMaker<W> {
  return (place, parts = {}) => {
    const more = typeof parts === "number" ? { displacement: parts } : parts;
    if (more.index !== undefined && more.index.code === 4) {
      throw new AssemblerError(`${more.index.name} cannot be an index register`);
    }
    const base = typeof place === "object" && "kind" in place ? place : undefined;
    let displacement: number | Label = more.displacement ?? 0;
    if (place instanceof Label) {
      if (displacement !== 0) throw new AssemblerError(`no displacement may be added to label ${place.name}`);
      displacement = place;
    } else if (typeof place === "number") {
      displacement += place;
    }
    const { index, segment, scale = 1 } = more;
    return { kind: "memory", width, base, index, scale, displacement, segment };
  };
}

/** `qword(rbx, 8)`, `qword(rbx, { index: rcx, scale: 8 })`, `qword(label)`, `qword(0x1000)`: memory operands by width. */
export const byte = memoryOf(8);
export const word = memoryOf(16);
export const dword = memoryOf(32);
export const qword = memoryOf(64);

export type Place<W extends Width> = Gpr<W> | Memory<W>;

export function isMemory(operand: object | bigint | number): operand is Memory {
  return typeof operand === "object" && "kind" in operand && operand.kind === "memory";
}

export function isGpr(operand: object | bigint | number): operand is Gpr {
  return typeof operand === "object" && "kind" in operand && operand.kind === "gpr";
}
