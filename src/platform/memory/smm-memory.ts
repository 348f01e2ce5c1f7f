import { PhysicalAddressError, type PhysicalMemory } from "./physical-memory.js";

/** SMRAM as the processor and the SMI handler reach it in SMM. Nobody else has this view. */
export class SmmMemory {
  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  #check(hpa: number, bytes: number): void {
    this.#memory.check(hpa, bytes);
    if (!this.#memory.isSmram(hpa >>> 12)) throw new PhysicalAddressError(hpa, bytes);
  }

  /** Reads 2, 4 or 8 bytes. */
  read(hpa: number, bytes: 2 | 4 | 8): bigint {
    this.#check(hpa, bytes);
    if (bytes === 8) return this.#memory.view.getBigUint64(hpa, true);
    return BigInt(bytes === 4 ? this.#memory.view.getUint32(hpa, true) : this.#memory.view.getUint16(hpa, true));
  }

  write(hpa: number, bytes: 2 | 4 | 8, value: bigint): void {
    this.#check(hpa, bytes);
    if (bytes === 8) this.#memory.view.setBigUint64(hpa, value, true);
    else if (bytes === 4) this.#memory.view.setUint32(hpa, Number(BigInt.asUintN(32, value)), true);
    else this.#memory.view.setUint16(hpa, Number(BigInt.asUintN(16, value)), true);
  }

  fill(hpa: number, length: number, value: number): void {
    this.#check(hpa, length);
    this.#memory.bytes.fill(value, hpa, hpa + length);
  }
}
