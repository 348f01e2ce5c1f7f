/** The x86 Linux boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst). */

/** Offsets of setup_header fields, in a bzImage as in boot_params. */
export const SETUP_HEADER = {
  /** u8: real-mode code in 512-byte sectors, boot sector not counted; 0 means 4. */
  SETUP_SECTS: 0x1f1,
  /** u32: size of the protected-mode code in 16-byte units. */
  SYSSIZE: 0x1f4,
  /** u16. */
  BOOT_FLAG: 0x1fe,
  /** u8: distance from 0x202 to the end of the header. */
  HEADER_LENGTH: 0x201,
  /** u32. */
  HEADER_MAGIC: 0x202,
  /** u16: major and minor version. */
  VERSION: 0x206,
  /** u8. */
  TYPE_OF_LOADER: 0x210,
  /** u8. */
  LOADFLAGS: 0x211,
  /** u32: where the protected-mode code is loaded. */
  CODE32_START: 0x214,
  /** u32 each. */
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  CMD_LINE_PTR: 0x228,
  /** u32: highest address that an initrd's last byte may have. */
  INITRD_ADDR_MAX: 0x22c,
  /** u32. */
  KERNEL_ALIGNMENT: 0x230,
  /** u8. */
  RELOCATABLE_KERNEL: 0x234,
  /** u16. */
  XLOADFLAGS: 0x236,
  /** u32: longest command line, terminator not counted. */
  CMDLINE_SIZE: 0x238,
  /** u32 each: the packed kernel, from the start of the protected-mode code. */
  PAYLOAD_OFFSET: 0x248,
  PAYLOAD_LENGTH: 0x24c,
  /** u64: where the kernel would like to be loaded. */
  PREF_ADDRESS: 0x258,
  /** u32: memory that the kernel needs from its load address on until it reads the memory map. */
  INIT_SIZE: 0x260,
} as const;

export const BOOT_FLAG = 0xaa55;
/** "HdrS". */
export const HEADER_MAGIC = 0x5372_6448;
/** First version with xloadflags. */
export const MIN_VERSION = 0x020c;
/** type_of_loader of a loader without an assigned number. */
export const LOADER_UNDEFINED = 0xff;
/** xloadflags: there is a 64-bit entry at 0x200. */
export const XLF_KERNEL_64 = 1 << 0;
/** 64-bit entry, from the start of the protected-mode code. */
export const ENTRY_64 = 0x200;
export const SECTOR_SIZE = 512;
/** Setup sectors that a header value of 0 stands for. */
export const DEFAULT_SETUP_SECTS = 4;

/** Offsets in boot_params (the zero page) outside of setup_header. */
export const BOOT_PARAMS = {
  SIZE: 0x1000,
  /** u64. */
  ACPI_RSDP_ADDR: 0x070,
  /** u32 each: bits 63:32 of the fields in setup_header. */
  EXT_RAMDISK_IMAGE: 0x0c0,
  EXT_RAMDISK_SIZE: 0x0c4,
  EXT_CMD_LINE_PTR: 0x0c8,
  /** u8. */
  E820_ENTRIES: 0x1e8,
  /** setup_header is copied from here on. */
  SETUP_HEADER: 0x1f1,
  /** Entries of 20 bytes: u64 address, u64 size, u32 type. */
  E820_TABLE: 0x2d0,
  E820_ENTRY_SIZE: 20,
  E820_MAX_ENTRIES: 128,
} as const;

export const E820_TYPE = { RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4 } as const;
