/** System-management mode: entry state and Intel's 64-bit save-state map (SDM 3C chapter 32; smi-mca facts 1.3 and 1.4). */

/** Offsets in the map count from SMBASE + this. */
export const SAVE_STATE_ORIGIN = 0x8000;
/** The save-state area, in offsets of the map. */
export const SAVE_STATE_AREA = { FIRST: 0x7c00, END: 0x8000 } as const;

/** Revision identifier: 64-bit map, I/O instruction restart (bit 16) and SMBASE relocation (bit 17). */
export const SMM_REVISION = 0x30101;

/** Fields of the save state: offset and bytes. */
export const SAVE_STATE = {
  GDT_BASE_HIGH: { offset: 0x7dd0, bytes: 4 },
  LDT_BASE_HIGH: { offset: 0x7dd4, bytes: 4 },
  IDT_BASE_HIGH: { offset: 0x7dd8, bytes: 4 },
  IO_RIP: { offset: 0x7de8, bytes: 8 },
  CR4: { offset: 0x7e40, bytes: 8 },
  GDT_BASE_LOW: { offset: 0x7e8c, bytes: 4 },
  IDT_BASE_LOW: { offset: 0x7e94, bytes: 4 },
  LDT_BASE_LOW: { offset: 0x7e9c, bytes: 4 },
  EPTP: { offset: 0x7ed8, bytes: 8 },
  EPT_ENABLE: { offset: 0x7ee0, bytes: 4 },
  SMBASE: { offset: 0x7ef8, bytes: 4 },
  REVISION: { offset: 0x7efc, bytes: 4 },
  IO_RESTART: { offset: 0x7f00, bytes: 2 },
  AUTO_HALT: { offset: 0x7f02, bytes: 2 },
  R15: { offset: 0x7f1c, bytes: 8 },
  R14: { offset: 0x7f24, bytes: 8 },
  R13: { offset: 0x7f2c, bytes: 8 },
  R12: { offset: 0x7f34, bytes: 8 },
  R11: { offset: 0x7f3c, bytes: 8 },
  R10: { offset: 0x7f44, bytes: 8 },
  R9: { offset: 0x7f4c, bytes: 8 },
  R8: { offset: 0x7f54, bytes: 8 },
  RAX: { offset: 0x7f5c, bytes: 8 },
  RCX: { offset: 0x7f64, bytes: 8 },
  RDX: { offset: 0x7f6c, bytes: 8 },
  RBX: { offset: 0x7f74, bytes: 8 },
  RSP: { offset: 0x7f7c, bytes: 8 },
  RBP: { offset: 0x7f84, bytes: 8 },
  RSI: { offset: 0x7f8c, bytes: 8 },
  RDI: { offset: 0x7f94, bytes: 8 },
  IO_MEM_ADDR: { offset: 0x7f9c, bytes: 8 },
  IO_MISC: { offset: 0x7fa4, bytes: 4 },
  ES: { offset: 0x7fa8, bytes: 4 },
  CS: { offset: 0x7fac, bytes: 4 },
  SS: { offset: 0x7fb0, bytes: 4 },
  DS: { offset: 0x7fb4, bytes: 4 },
  FS: { offset: 0x7fb8, bytes: 4 },
  GS: { offset: 0x7fbc, bytes: 4 },
  LDTR: { offset: 0x7fc0, bytes: 4 },
  TR: { offset: 0x7fc4, bytes: 4 },
  DR7: { offset: 0x7fc8, bytes: 8 },
  DR6: { offset: 0x7fd0, bytes: 8 },
  RIP: { offset: 0x7fd8, bytes: 8 },
  EFER: { offset: 0x7fe0, bytes: 8 },
  RFLAGS: { offset: 0x7fe8, bytes: 8 },
  CR3: { offset: 0x7ff0, bytes: 8 },
  CR0: { offset: 0x7ff8, bytes: 8 },
} as const;

export type SaveStateField = keyof typeof SAVE_STATE;

/** General-purpose registers of the save state in the order of the encoding. */
export const SAVE_STATE_GPRS = [
  "RAX",
  "RCX",
  "RDX",
  "RBX",
  "RSP",
  "RBP",
  "RSI",
  "RDI",
  "R8",
  "R9",
  "R10",
  "R11",
  "R12",
  "R13",
  "R14",
  "R15",
] as const satisfies readonly SaveStateField[];

/** Segment selectors of the save state in the order of the encoding. */
export const SAVE_STATE_SELECTORS = [
  "ES",
  "CS",
  "SS",
  "DS",
  "FS",
  "GS",
  "LDTR",
  "TR",
] as const satisfies readonly SaveStateField[];

/** AUTO_HALT bit 0: the SMI woke the processor from HLT; if it is still set at RSM, HLT goes on. */
export const AUTO_HALT_RESTART = 1;

/** IO_MISC bit 0: the SMI came from an I/O instruction. */
export const IO_MISC_IO_SMI = 1;
