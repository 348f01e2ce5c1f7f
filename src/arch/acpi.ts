/** ACPI tables and AML encodings (ACPI specification 6.3, chapters 5, 6.4 and 20). */

/** Header that every table but the RSDP begins with. */
export const TABLE_HEADER = {
  SIZE: 36,
  SIGNATURE: 0,
  LENGTH: 4,
  REVISION: 8,
  CHECKSUM: 9,
  OEM_ID: 10,
  OEM_TABLE_ID: 16,
  OEM_REVISION: 24,
  CREATOR_ID: 28,
  CREATOR_REVISION: 32,
} as const;

/** Root System Description Pointer, revision 2. */
export const RSDP = {
  SIZE: 36,
  SIGNATURE: "RSD PTR ",
  CHECKSUM: 8,
  /** The first checksum covers this many bytes. */
  CHECKSUM_LENGTH: 20,
  OEM_ID: 9,
  REVISION: 15,
  LENGTH: 20,
  XSDT_ADDRESS: 24,
  EXTENDED_CHECKSUM: 32,
} as const;

/** Fixed ACPI Description Table, revision 6: the fields that our machine uses. */
export const FADT = {
  SIZE: 276,
  REVISION: 6,
  /** u32: address of FACS. */
  FIRMWARE_CTRL: 36,
  DSDT: 40,
  /** u16. */
  SCI_INT: 46,
  /** u32 each: I/O ports. */
  PM1A_EVT_BLK: 56,
  PM1A_CNT_BLK: 64,
  /** u8 each. */
  PM1_EVT_LEN: 88,
  PM1_CNT_LEN: 89,
  /** u16 each: microseconds; above 100 and 1000 there is no such state. */
  P_LVL2_LAT: 96,
  P_LVL3_LAT: 98,
  /** CMOS index of the century. */
  CENTURY: 108,
  /** u16. */
  IAPC_BOOT_ARCH: 109,
  /** u32. */
  FLAGS: 112,
  /** Generic address, 12 bytes. */
  RESET_REG: 116,
  RESET_VALUE: 128,
  X_DSDT: 140,
  /** Generic addresses. */
  X_PM1A_EVT_BLK: 148,
  X_PM1A_CNT_BLK: 172,
} as const;

export const FADT_FLAG = {
  WBINVD: 1 << 0,
  /** All processors have the C1 state. */
  PROC_C1: 1 << 2,
  /** There is no fixed power button, no fixed sleep button. */
  PWR_BUTTON: 1 << 4,
  SLP_BUTTON: 1 << 5,
  /** The RTC cannot wake the machine by a fixed event. */
  FIX_RTC: 1 << 6,
  RESET_REG_SUP: 1 << 10,
  HEADLESS: 1 << 12,
} as const;

export const IAPC_BOOT_ARCH = {
  LEGACY_DEVICES: 1 << 0,
  KEYBOARD_8042: 1 << 1,
  VGA_NOT_PRESENT: 1 << 2,
  MSI_NOT_SUPPORTED: 1 << 3,
  CMOS_RTC_NOT_PRESENT: 1 << 5,
} as const;

/** Generic address structure. */
export const GENERIC_ADDRESS = { SPACE_ID: 0, BIT_WIDTH: 1, BIT_OFFSET: 2, ACCESS_SIZE: 3, ADDRESS: 4 } as const;
export const ADDRESS_SPACE = { MEMORY: 0, IO: 1 } as const;
/** Access sizes of a generic address. */
export const ACCESS = { BYTE: 1, WORD: 2 } as const;

/** Firmware ACPI Control Structure: it has no checksum. */
export const FACS = { SIZE: 64, SIGNATURE: "FACS", LENGTH: 4, VERSION: 32, CURRENT_VERSION: 2, ALIGNMENT: 64 } as const;

/** PM1 event block: status and enable register, 16 bits each (4.8.3.1). */
export const PM1_EVENT = { LENGTH: 4, STATUS: 0, ENABLE: 2 } as const;
/** PM1 control register, 16 bits (4.8.3.2). */
export const PM1_CONTROL = {
  LENGTH: 2,
  SCI_EN: 1 << 0,
  SLP_TYP_SHIFT: 10,
  SLP_TYP_MASK: 7 << 10,
  SLP_EN: 1 << 13,
} as const;
/** SLP_TYP of our \_S5. */
export const SLEEP_TYPE_S5 = 5;

/** Multiple APIC Description Table. */
export const MADT = {
  REVISION: 5,
  /** After the header: u32 local APIC address, u32 flags, then structures. */
  LOCAL_APIC: { TYPE: 0, LENGTH: 8, ENABLED: 1 },
  IO_APIC: { TYPE: 1, LENGTH: 12 },
  /** Interrupt source override; flags 15: level-triggered and active high. */
  OVERRIDE: { TYPE: 2, LENGTH: 10, LEVEL_ACTIVE_HIGH: 0xd },
  /** Multiprocessor wakeup, version 0. */
  WAKEUP: { TYPE: 0x10, LENGTH: 16 },
} as const;

/** Mailbox of the multiprocessor wakeup structure (5.2.12.19). */
export const MAILBOX = {
  SIZE: 0x1000,
  /** u16. */
  COMMAND: 0,
  /** u32. */
  APIC_ID: 4,
  /** u64. */
  WAKEUP_VECTOR: 8,
  COMMAND_NOOP: 0,
  COMMAND_WAKEUP: 1,
} as const;

/** AML opcodes (20.3). */
export const AML = {
  ZERO: 0x00,
  ONE: 0x01,
  NAME: 0x08,
  BYTE_PREFIX: 0x0a,
  WORD_PREFIX: 0x0b,
  DWORD_PREFIX: 0x0c,
  STRING_PREFIX: 0x0d,
  SCOPE: 0x10,
  BUFFER: 0x11,
  PACKAGE: 0x12,
  EXTENDED_PREFIX: 0x5b,
  ROOT: 0x5c,
  DEVICE_EXTENDED: 0x82,
} as const;

/** Small resource descriptors (6.4.2): tag byte with its length. */
export const RESOURCE = {
  /** u8 information, u16 minimum, u16 maximum, u8 alignment, u8 length. */
  IO_PORT: 0x47,
  IO_PORT_DECODE16: 1,
  /** u16 mask; edge-triggered, active high. */
  IRQ_NO_FLAGS: 0x22,
  END_TAG: 0x79,
} as const;
