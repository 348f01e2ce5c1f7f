/**
 * The small world in which a case runs: the same linear addresses in a process of the real CPU and in our machine. Everything
 * else below 1 TiB is unmapped in both.
 */
export const ARENA = {
  /** Two pages of code, not writable at this address. Unmapped on both sides. */
  CODE: 0x2000_0000,
  CODE_SIZE: 0x2000,
  /** Two pages of data. Unmapped before them; a page that can only be read is behind them, then nothing. */
  DATA: 0x3000_0000,
  DATA_SIZE: 0x2000,
  READ_ONLY: 0x3000_2000,
  READ_ONLY_SIZE: 0x1000,
  /** Bases of FS and GS in 64-bit mode. */
  FS_BASE: 0x10_0000,
  GS_BASE: 0x70_0000,
} as const;

/** What fills the code page around the instruction: INT3. */
export const CODE_FILLER = 0xcc;

/** Selectors that Linux gives a 64-bit process, and the code segment of its compatibility mode. */
export const SELECTOR = { CODE64: 0x33, CODE32: 0x23, DATA: 0x2b } as const;

/** A case as the native program reads it: offsets in its record. */
export const CASE = {
  CODE: 0,
  CODE_BYTES: 32,
  CODE_OFFSET: 32,
  CODE_LENGTH: 34,
  /** 0: 64-bit mode, 1: compatibility mode. */
  COMPATIBILITY: 35,
  /** 1: stop after one instruction (TF is set in RFLAGS); 0: run to the INT3 behind it. */
  STEP: 36,
  PATCH_OFFSET: 40,
  PATCH_LENGTH: 42,
  GPR: 48,
  RFLAGS: 176,
  PATCH: 184,
  PATCH_BYTES: 72,
  /** FXSAVE image. */
  FX: 256,
  SIZE: 768,
} as const;

/** What the native program says of a case. */
export const RESULT = {
  GPR: 0,
  RIP: 128,
  RFLAGS: 136,
  CR2: 144,
  ERROR: 152,
  TRAP: 160,
  SIGNAL: 164,
  CS: 168,
  /** First changed byte of the data pages and the one behind the last; both 0 if none changed. */
  FIRST: 172,
  END: 176,
  /** FNV-1a of the bytes between. */
  HASH: 180,
  CHANGED: 184,
  CHANGED_BYTES: 72,
  FX: 256,
  SIZE: 768,
} as const;

/** Bytes of an FXSAVE image that mean something: behind the last XMM register there is nothing. */
export const FX_BYTES = 416;
export const FX = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FDP: 16,
  MXCSR: 24,
  MXCSR_MASK: 28,
  ST: 32,
  XMM: 160,
} as const;
