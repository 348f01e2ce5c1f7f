import { PM1_CONTROL, PM1_EVENT, SLEEP_TYPE_S5 } from "../../arch/acpi.js";
import { KEYBOARD_CONTROLLER, PM1A_CONTROL, PM1A_EVENT } from "../ports.js";
import type { PortDevice } from "./port-bus.js";

/** ACPI's fixed power management: no event ever happens, and of the sleeping states only S5 is known. */
export class PowerManagement implements PortDevice {
  #enabled = 0;

  constructor(private readonly powerOff: () => void) {}

  readPort(port: number, _size: number): number {
    if (port === PM1A_CONTROL) return PM1_CONTROL.SCI_EN;
    return port === PM1A_EVENT + PM1_EVENT.ENABLE ? this.#enabled : 0;
  }

  writePort(port: number, _size: number, value: number): void {
    if (port === PM1A_EVENT + PM1_EVENT.ENABLE) this.#enabled = value & 0xffff;
    if (port !== PM1A_CONTROL || !(value & PM1_CONTROL.SLP_EN)) return;
    if ((value & PM1_CONTROL.SLP_TYP_MASK) >> PM1_CONTROL.SLP_TYP_SHIFT === SLEEP_TYPE_S5) this.powerOff();
  }

  get state(): { readonly enabled: number } {
    return { enabled: this.#enabled };
  }

  restore(state: { readonly enabled: number }): void {
    this.#enabled = state.enabled;
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
