import { PCI_CONFIG, RESET_CONTROL } from "../ports.js";
import type { PortDevice } from "./port-bus.js";

/** Address register: enable, then bus, device, function and register. */
const ENABLE = 0x8000_0000;
const BUS_DEVICE_FUNCTION = 0x00ff_ff00;
const REGISTER = 0xfc;
const DATA = PCI_CONFIG.BASE + 4;

/** Bus 0, device 0: a bridge from the host, by which a kernel sees that these ports work. */
const HOST_BRIDGE: ReadonlyMap<number, number> = new Map([
  [0x00, 0x0d57_8086], // device and vendor
  [0x08, 0x0600_0000], // class: host bridge
]);

/** PCI configuration mechanism 1 with nothing on the bus but the host bridge, and the reset control register inside it. */
export class PciConfiguration implements PortDevice {
  #address = 0;

  constructor(private readonly reset: () => void) {}

  readPort(port: number, size: number): number {
    if (port >= DATA) return this.#data() >>> (8 * (port - DATA));
    return port === PCI_CONFIG.BASE && size === 4 ? this.#address : 0xffff_ffff;
  }

  writePort(port: number, size: number, value: number): void {
    if (port === PCI_CONFIG.BASE && size === 4) this.#address = value >>> 0;
    if (port === RESET_CONTROL.PORT && size === 1 && value & RESET_CONTROL.RESET_CPU) this.reset();
  }

  get state(): { readonly address: number } {
    return { address: this.#address };
  }

  restore(state: { readonly address: number }): void {
    this.#address = state.address;
  }

  #data(): number {
    if (!(this.#address & ENABLE)) return 0xffff_ffff;
    if (this.#address & BUS_DEVICE_FUNCTION) return 0xffff_ffff;
    return HOST_BRIDGE.get(this.#address & REGISTER) ?? 0;
  }
}
