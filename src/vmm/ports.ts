/** The machine's I/O ports and MMIO addresses: the devices answer there, the ACPI tables say so. */

export const COM1 = { BASE: 0x3f8, LENGTH: 8, GSI: 4 } as const;
/** The interval timer's four ports, and the port with its gates and outputs. */
export const PIT = { BASE: 0x40, LENGTH: 4 } as const;
export const SYSTEM_CONTROL_B = 0x61;
export const CMOS = { BASE: 0x70, LENGTH: 2 } as const;
/** Register index of the century, as FADT says. */
export const CMOS_CENTURY = 0x32;
export const PCI_CONFIG = { BASE: 0xcf8, LENGTH: 8 } as const;
/** ACPI's PM1a event block and control register. */
export const PM1A_EVENT = 0x600;
export const PM1A_CONTROL = 0x604;
/** ACPI's system control interrupt; nothing raises it. */
export const SCI = { ISA_IRQ: 9, GSI: 9 } as const;
/** PC reset control: RST_CPU | SYS_RST resets the machine. It lies among the PCI configuration ports. */
export const RESET_CONTROL = { PORT: 0xcf9, SYSTEM_RESET: 1 << 1, RESET_CPU: 1 << 2 } as const;
/** Keyboard controller: this command pulses the reset line. */
export const KEYBOARD_CONTROLLER = { PORT: 0x64, PULSE_RESET: 0xfe } as const;

export const IOAPIC = { BASE: 0xfec0_0000, SIZE: 0x1000, PINS: 24, ID: 0 } as const;
export const LOCAL_APIC_BASE = 0xfee0_0000;
