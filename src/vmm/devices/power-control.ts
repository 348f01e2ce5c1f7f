import { SLEEP, SLEEP_TYPE_S5 } from "../../arch/acpi.js";
import { ACPI_SLEEP_CONTROL, KEYBOARD_CONTROLLER } from "../ports.js";
import type { PortDevice } from "./port-bus.js";

/** ACPI's sleep control and status registers, of which only S5 is known. */
export class SleepControl implements PortDevice {
  constructor(private readonly powerOff: () => void) {}

  /** No wake status: the machine has not slept. */
  readPort(_port: number, _size: number): number {
    return 0;
  }

  writePort(port: number, _size: number, value: number): void {
    if (port !== ACPI_SLEEP_CONTROL || !(value & SLEEP.ENABLE)) return;
    if ((value & SLEEP.TYPE_MASK) >> SLEEP.TYPE_SHIFT === SLEEP_TYPE_S5) this.powerOff();
  }
}

/** The keyboard controller's command port: nothing but the reset line is there. */
export class KeyboardReset implements PortDevice {
  constructor(private readonly reset: () => void) {}

  readPort(_port: number, _size: number): number {
    return 0xff;
  }

  writePort(_port: number, _size: number, value: number): void {
    if (value === KEYBOARD_CONTROLLER.PULSE_RESET) this.reset();
  }
}

/** A port that always reads the same. */
export class ConstantPort implements PortDevice {
  constructor(private readonly value: number) {}

  readPort(_port: number, _size: number): number {
    return this.value;
  }

  writePort(_port: number, _size: number, _value: number): void {}
}
