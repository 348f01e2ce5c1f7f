import { PM1_CONTROL, PM1_EVENT } from "../../arch/acpi.js";
import {
  CMOS,
  COM1,
  IOAPIC,
  KEYBOARD_CONTROLLER,
  PCI_CONFIG,
  PIT,
  PM1A_CONTROL,
  PM1A_EVENT,
  SYSTEM_CONTROL_B,
} from "../ports.js";
import { IoApic, type IoApicState, type MsiMessage } from "./io-apic.js";
import { MmioBus } from "./mmio-bus.js";
import { PciConfiguration } from "./pci-configuration.js";
import { PortBus } from "./port-bus.js";
import { ConstantPort, KeyboardReset, PowerManagement } from "./power-control.js";
import { RealTimeClock } from "./real-time-clock.js";
import { SerialPort, type SerialPortState } from "./serial-port.js";

/** What the board's devices do to the world. */
export interface BoardWiring {
  /** A byte on the console. */
  transmit(byte: number): void;
  /** An interrupt message to the vCPUs. */
  signalMsi(message: MsiMessage): void;
  powerOff(): void;
  reset(): void;
  /** Seconds since 1970. */
  seconds(): number;
}

/** The board as a value. */
export interface BoardState {
  readonly serial: SerialPortState;
  readonly ioApic: IoApicState;
  readonly clockIndex: number;
  readonly pciAddress: number;
  readonly pm1Enabled: number;
}

/**
 * The PIT's counter reads 0: a constant other than the 0xff that its driver looks for fifty thousand times. The timer 2
 * output in port 0x61 is always up, so that nobody waits for it.
 */
const PIT_READS = 0x00;
const TIMER_2_OUTPUT = 0x20;

/** All devices, wired up. */
export class Board {
  readonly ports = new PortBus();
  readonly mmio = new MmioBus();
  readonly serial: SerialPort;
  readonly ioApic: IoApic;
  readonly #clock: RealTimeClock;
  readonly #pci: PciConfiguration;
  readonly #power: PowerManagement;

  constructor(wiring: BoardWiring) {
    const reset = () => wiring.reset();
    this.ioApic = new IoApic((message) => wiring.signalMsi(message));
    this.serial = new SerialPort(COM1.BASE, {
      transmit: (byte) => wiring.transmit(byte),
      setInterrupt: (level) => this.ioApic.setLine(COM1.GSI, level),
    });
    this.#clock = new RealTimeClock(() => wiring.seconds());
    this.#pci = new PciConfiguration(reset);
    this.ports.attach(PIT.BASE, PIT.LENGTH, new ConstantPort(PIT_READS));
    this.ports.attach(SYSTEM_CONTROL_B, 1, new ConstantPort(TIMER_2_OUTPUT));
    this.ports.attach(KEYBOARD_CONTROLLER.PORT, 1, new KeyboardReset(reset));
    this.ports.attach(CMOS.BASE, CMOS.LENGTH, this.#clock);
    this.ports.attach(COM1.BASE, COM1.LENGTH, this.serial);
    this.#power = new PowerManagement(() => wiring.powerOff());
    this.ports.attach(PM1A_EVENT, PM1_EVENT.LENGTH, this.#power);
    this.ports.attach(PM1A_CONTROL, PM1_CONTROL.LENGTH, this.#power);
    this.ports.attach(PCI_CONFIG.BASE, PCI_CONFIG.LENGTH, this.#pci);
    this.mmio.attach(IOAPIC.BASE, IOAPIC.SIZE, this.ioApic);
  }

  get state(): BoardState {
    return {
      serial: this.serial.state,
      ioApic: this.ioApic.state,
      clockIndex: this.#clock.state.index,
      pciAddress: this.#pci.state.address,
      pm1Enabled: this.#power.state.enabled,
    };
  }

  /** Puts every device into a state that `state` gave. */
  restore({ serial, ioApic, clockIndex, pciAddress, pm1Enabled }: BoardState): void {
    this.serial.restore(serial);
    this.ioApic.restore(ioApic);
    this.#clock.restore({ index: clockIndex });
    this.#pci.restore({ address: pciAddress });
    this.#power.restore({ enabled: pm1Enabled });
  }
}
