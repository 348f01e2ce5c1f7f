import { PAGE_SIZE } from "../../arch/page.js";
import type { SeamMemory } from "../../platform/seam.js";
import type { Field } from "./layout.js";

/** A control structure in physical memory: pages that lie anywhere, accessed with one KeyID. */
export class StructureView {
  memory!: SeamMemory;
  keyId = 0;
  /** Host physical address of each page; 0: not there. */
  readonly pages: Float64Array;

  constructor(pages: number) {
    this.pages = new Float64Array(pages);
  }

  /** Host physical address of an element. */
  address(field: Field, index = 0): number {
    const offset = field.offset + index * field.size;
    return (this.pages[offset >>> 12] as number) + (offset & (PAGE_SIZE - 1));
  }

  /** Value of at most 53 bits (an address, a counter); wider fields go through `get64`. */
  get(field: Field, index = 0): number {
    const at = this.address(field, index);
    switch (field.size) {
      case 1:
        return this.memory.read8(at, this.keyId);
      case 2:
        return this.memory.read16(at, this.keyId);
      case 4:
        return this.memory.read32(at, this.keyId) >>> 0;
      case 8: {
        const high = this.memory.read32(at + 4, this.keyId) >>> 0;
        return high * 0x1_0000_0000 + (this.memory.read32(at, this.keyId) >>> 0);
      }
    }
  }

  set(field: Field, value: number, index = 0): void {
    const at = this.address(field, index);
    switch (field.size) {
      case 1:
        this.memory.write8(at, value, this.keyId);
        break;
      case 2:
        this.memory.write16(at, value, this.keyId);
        break;
      case 4:
        this.memory.write32(at, value >>> 0, this.keyId);
        break;
      case 8:
        this.memory.write32(at, value >>> 0, this.keyId);
        this.memory.write32(at + 4, Math.floor(value / 0x1_0000_0000) >>> 0, this.keyId);
    }
  }

  /** Any field as an unsigned 64-bit value. */
  get64(field: Field, index = 0): bigint {
    return field.size === 8
      ? this.memory.read64(this.address(field, index), this.keyId)
      : BigInt(this.get(field, index));
  }

  set64(field: Field, value: bigint, index = 0): void {
    if (field.size === 8) this.memory.write64(this.address(field, index), BigInt.asUintN(64, value), this.keyId);
    else this.set(field, Number(BigInt.asUintN(field.size * 8, value)), index);
  }

  /** All elements as bytes. The field must not cross a page. */
  bytes(field: Field): Uint8Array {
    return this.memory.read(this.address(field), field.size * field.count, this.keyId);
  }

  setBytes(field: Field, bytes: Uint8Array): void {
    this.memory.write(this.address(field), bytes, this.keyId);
  }
}
