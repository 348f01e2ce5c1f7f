import { AssemblerError } from "./assembler-error.js";
import { type Immediate, Label } from "./operands.js";

/** Where a label's value goes once it is known. */
interface Fixup {
  readonly label: Label;
  /** Offset in the buffer of the field. */
  readonly offset: number;
  /** Bytes of the field. */
  readonly size: 1 | 2 | 4 | 8;
  /** Offset of what the value is relative to; undefined: the value is the address itself. */
  relativeTo: number | undefined;
}

/** Bytes that grow, with labels in them. */
export class CodeBuffer {
  #bytes = new Uint8Array(256);
  #length = 0;
  readonly #fixups: Fixup[] = [];

  /** @param origin linear address of the first byte. */
  constructor(readonly origin: number) {}

  get length(): number {
    return this.#length;
  }

  /** Linear address of the next byte. */
  get address(): number {
    return this.origin + this.#length;
  }

  put(...bytes: readonly number[]): void {
    this.append(Uint8Array.from(bytes));
  }

  append(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Little-endian, `size` bytes; a label is filled in later. */
  putValue(value: Immediate | Label, size: 1 | 2 | 4 | 8): void {
    if (value instanceof Label) {
      this.#fixups.push({
        label: value,
        offset: this.#length,
        size,
        relativeTo: undefined,
      });
      this.append(new Uint8Array(size));
    } else {
      this.append(encodeValue(BigInt(value), size));
    }
  }

  /**
   * A field of `size` bytes that will hold the distance from the end of the instruction to `label`. The instruction ends
   * with this field, unless `endAt` says so later.
   */
  putRelative(label: Label, size: 1 | 4): { endAt(offset: number): void } {
    const fixup: Fixup = {
      label,
      offset: this.#length,
      size,
      relativeTo: this.#length + size,
    };
    this.#fixups.push(fixup);
    this.append(new Uint8Array(size));
    return {
      endAt: (offset) => {
        fixup.relativeTo = offset;
      },
    };
  }

  bind(label: Label): void {
    if (label.address !== undefined) throw new AssemblerError(`label ${label.name} is bound twice`);
    label.address = this.address;
  }

  /** The finished bytes, all labels resolved. */
  finish(): Uint8Array {
    const bytes = this.#bytes.slice(0, this.#length);
    for (const { label, offset, size, relativeTo } of this.#fixups) {
      if (label.address === undefined) throw new AssemblerError(`label ${label.name} is used but never bound`);
      const value = relativeTo === undefined ? label.address : label.address - this.origin - relativeTo;
      if (relativeTo !== undefined && size === 1 && (value < -128 || value > 127)) {
        throw new AssemblerError(`label ${label.name} is ${value} bytes away, too far for a short branch`);
      }
      bytes.set(encodeValue(BigInt(value), size), offset);
    }
    return bytes;
  }
}

/** Little-endian bytes of a value that fits `size` bytes as a signed or as an unsigned number. */
export function encodeValue(value: bigint, size: 1 | 2 | 4 | 8): Uint8Array {
  const bits = 8 * size;
  if (BigInt.asUintN(bits, value) !== value && BigInt.asIntN(bits, value) !== value) {
    throw new AssemblerError(`0x${value.toString(16)} does not fit in ${size} byte(s)`);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes.subarray(0, size);
}
