/** A device behind memory-mapped registers: 32-bit accesses, offsets from its base. */
export interface MmioDevice {
  readRegister(offset: number): number;
  writeRegister(offset: number, value: number): void;
}

interface Attachment {
  readonly base: number;
  readonly size: number;
  readonly device: MmioDevice;
}

/** Which device answers at which guest physical addresses. Elsewhere reads give all-ones and writes are lost. */
export class MmioBus {
  readonly #attached: Attachment[] = [];

  attach(base: number, size: number, device: MmioDevice): void {
    this.#attached.push({ base, size, device });
  }

  /** Fills in `length` bytes of `data`, little-endian. */
  read(gpa: number, length: number, data: DataView): void {
    const found = this.#find(gpa);
    const value = found ? found.device.readRegister(gpa - found.base) : 0xffff_ffff;
    for (let index = 0; index < length; index++) {
      const byte = index < 4 ? (value >>> (8 * index)) & 0xff : found ? 0 : 0xff;
      data.setUint8(index, byte);
    }
  }

  /** Narrow writes are zero-extended, as our devices' registers are 32 bits wide. */
  write(gpa: number, length: number, data: DataView): void {
    const found = this.#find(gpa);
    if (!found) return;
    let value = 0;
    for (let index = 0; index < Math.min(length, 4); index++) value |= data.getUint8(index) << (8 * index);
    found.device.writeRegister(gpa - found.base, value >>> 0);
  }

  #find(gpa: number): Attachment | undefined {
    return this.#attached.find(({ base, size }) => gpa >= base && gpa < base + size);
  }
}
