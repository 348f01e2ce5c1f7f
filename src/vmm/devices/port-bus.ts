/** A device behind I/O ports. `size` is 1, 2 or 4 bytes; values are unsigned. */
export interface PortDevice {
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
}

/** Which device answers at which ports. Nobody answers elsewhere: reads give all-ones, writes are lost. */
export class PortBus {
  readonly #devices = new Map<number, PortDevice>();

  attach(base: number, length: number, device: PortDevice): void {
    for (let port = base; port < base + length; port++) this.#devices.set(port, device);
  }

  read(port: number, size: number): number {
    const value = this.#devices.get(port)?.readPort(port, size) ?? 0xffff_ffff;
    return size === 4 ? value >>> 0 : value & (2 ** (8 * size) - 1);
  }

  write(port: number, size: number, value: number): void {
    this.#devices.get(port)?.writePort(port, size, value);
  }
}
