/**
 * Where everything lies in the machine's one WebAssembly memory.
 *
 * Addresses here are WebAssembly addresses (bytes from the start of the memory), not guest or host physical ones. Host
 * physical address `hpa` lies at `RAM_BASE + hpa`. Registers lie below 64 KiB, so that a decoded record can name any
 * of them by an unsigned 16-bit address.
 */

/** First byte of the register block: what one vCPU takes with it when it leaves the processor. */
export const STATE_BASE = 0x1000;
/** Size in bytes of the register block. It fits in one 4 KiB page, so that a TDVPS page can hold it. */
export const STATE_SIZE = 0x0c00;

/** Addresses in the register block. */
export const REG = {
  /** RAX..R15 in the order of the encoding, 8 bytes each. AH, CH, DH, BH are the second byte of the first four. */
  GPR: 0x1000,
  /** Instruction pointer; exact whenever the executor has returned. */
  RIP: 0x1080,
  /**
   * Lazy arithmetic flags (i64 each). With x + y (+ carry) = s, bitwise on operands sign-extended to 64 bits:
   * CF is the sign of (x & y) | ((x | y) & ~s), OF the sign of (x ^ s) & (y ^ s), AF bit 4 of x ^ y ^ s.
   * ZF is `FZ == 0`, SF the sign of FN, PF the even parity of FN's low byte. A subtraction a - b = r is r + b = a.
   */
  FZ: 0x1088,
  FN: 0x1090,
  FX: 0x1098,
  FY: 0x10a0,
  FS: 0x10a8,
  /** RFLAGS without CF, PF, AF, ZF, SF, OF and with bit 1 set: TF IF DF IOPL NT RF VM AC VIF VIP ID (i64). */
  FLAGS: 0x10b0,
  /** Segment registers ES CS SS DS FS GS LDTR TR, `SEG_SIZE` bytes each; see `SEG`. */
  SEGMENTS: 0x10c0,
  GDTR_BASE: 0x11c0,
  GDTR_LIMIT: 0x11c8,
  IDTR_BASE: 0x11d0,
  IDTR_LIMIT: 0x11d8,
  CR0: 0x11e0,
  CR2: 0x11e8,
  CR3: 0x11f0,
  CR4: 0x11f8,
  EFER: 0x1200,
  XCR0: 0x1208,
  XSS: 0x1210,
  /** DR0..DR3 at +0, +8, +16, +24; DR6 at +32; DR7 at +40. */
  DR: 0x1218,
  STAR: 0x1248,
  LSTAR: 0x1250,
  FMASK: 0x1258,
  KERNEL_GS_BASE: 0x1260,
  TSC_AUX: 0x1268,
  SYSENTER_CS: 0x1270,
  SYSENTER_ESP: 0x1278,
  SYSENTER_EIP: 0x1280,
  PAT: 0x1288,
  SPEC_CTRL: 0x1290,
  DEBUGCTL: 0x1298,
  /** Current privilege level (i32), kept equal to SS.DPL. */
  CPL: 0x12a0,
  /** Interruptibility (i32), as in the VMCS: bit 0 STI shadow, bit 1 MOV SS shadow, bit 3 NMI blocked. */
  INTERRUPTIBILITY: 0x12a4,
  /** Activity state (i32): 0 active, 1 HLT. */
  ACTIVITY: 0x12a8,
  /** Pending debug exceptions (i64), in the layout of DR6. */
  PENDING_DEBUG: 0x12b0,
  /** MSRs that the TD may access natively but that do nothing else here: storage only. */
  DS_AREA: 0x12b8,
  XAPIC_DISABLE: 0x12c0,
  /** x87: control, status (TOP kept in bits 13:11), tag word in its full two-bit form, opcode: u16 each. */
  FCW: 0x1300,
  FSW: 0x1302,
  FTW: 0x1304,
  FOP: 0x1306,
  FIP: 0x1308,
  FDP: 0x1310,
  FCS: 0x1318,
  FDS: 0x131a,
  MXCSR: 0x131c,
  /** XINUSE (i32): which XSAVE components are not in their initial configuration. */
  XINUSE: 0x1320,
  /** Physical x87 registers R0..R7, 16 bytes each: significand (8), sign and exponent (2), zeros. */
  FPR: 0x1380,
  /** XMM0..XMM15, 16 bytes each. */
  XMM: 0x1400,
} as const;

/** Bytes per segment register. */
export const SEG_SIZE = 32;
/** Offsets inside a segment register. */
export const SEG = {
  /** u64. */
  BASE: 0,
  /** u32, already scaled by the granularity bit (last valid offset). */
  LIMIT: 8,
  /** u32 access rights in VMX layout: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. */
  RIGHTS: 12,
  /** u16. */
  SELECTOR: 16,
} as const;
/** Index of each segment register, the first six in the order of the encoding. */
export const SEGMENT = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDTR: 6, TR: 7 } as const;

/** Processor-local values that do not belong to a vCPU: scratch, controls of the executor, exit mailbox. */
export const LOCAL = {
  /** Always zero: what an absent base or index register or a flat segment base reads (16 bytes). */
  ZERO: 0x2000,
  /** Linear address of the start of the page that is executing, less the CS base outside 64-bit mode (u64). */
  PAGE_BASE: 0x2010,
  /** Address of the offset index of the page that is executing (i32); 0: look it up. */
  PAGE_INDEX: 0x2018,
  /** Base of the data TLB in use, by CPL, SMAP and AC (i32). */
  DATA_TLB: 0x201c,
  /** Base of the fetch TLB in use, by CPL (i32). */
  FETCH_TLB: 0x2020,
  /** Base of the code-page table in use: one for 64-bit code, one for 16- and 32-bit code (i32). */
  CODE_TABLE: 0x2024,
  /** Ticks taken away from the running slice because an event asks for an earlier return (i32). */
  BUDGET_REST: 0x2028,
  /** Clock ticks of this slice that were further iterations of a `rep` and not retired instructions (i32). */
  REP_TICKS: 0x202c,
  /** Clock (i64) that the running slice will show when its budget is used up. */
  CLOCK_END: 0x2030,
  /** Added to the clock to give the TD's TSC (i64). */
  TSC_OFFSET: 0x2038,
  /** Non-zero while an interrupt waits for IF (i32): STI, POPF and IRET then end the slice. */
  INTERRUPT_WINDOW: 0x2040,
  /** State of the RDRAND generator (two i64). */
  RANDOM: 0x2048,
  /** Last accessed linear address, for a fault or an exit (u64). */
  FAULT_ADDRESS: 0x2058,
  /** Guest physical address, for an EPT violation (u64). */
  FAULT_GPA: 0x2060,
  /** Page-fault error code, or exit qualification of an EPT violation (i32). */
  FAULT_CODE: 0x2068,
  /** What the memory slow path found, one of `FAULT` (i32). */
  FAULT_KIND: 0x206c,
  /** Record that was executing when the executor returned (i32). */
  RECORD: 0x2070,
  /** Bounce buffer in use: linear address (u64), bytes (i32), 1 if it is to be written (i32). */
  BOUNCE_ADDRESS: 0x2078,
  BOUNCE_BYTES: 0x2080,
  BOUNCE_WRITE: 0x2084,
  /** WebAssembly addresses of the bounced bytes in the first and second page (i32 each). */
  BOUNCE_FIRST: 0x2088,
  BOUNCE_SECOND: 0x208c,
  /** Non-zero: translation through EPT (i32); zero: guest physical addresses are host physical. */
  EPT_ENABLED: 0x2090,
  /** Host physical address of the Secure EPT root (u64) and of the shared EPT root (u64). */
  SEPT_ROOT: 0x2098,
  SHARED_ROOT: 0x20a0,
  /** Mask with the one SHARED bit of a guest physical address (u64); 0 when there is none. */
  SHARED_MASK: 0x20a8,
  /** Guest physical address width mask: bits at or above MAXPHYADDR are reserved (u64). */
  RESERVED_MASK: 0x20b0,
  /** KeyID of the running TD (i32). */
  KEY_ID: 0x20b8,
  /** 1: the next data load from a private page leaves the executor with FAULT.WATCH; 2: the next fetch is reported (i32). */
  WATCH_LOAD: 0x20bc,
  /** Linear address (u64) at which the executor stops before it executes; all-ones: none. */
  BREAK_RIP: 0x20c0,
  /** Bytes written to a page with odd lines in this slice: WebAssembly address (i32) and bytes (i32); 0: none. */
  ODD_WRITE: 0x20c8,
  ODD_BYTES: 0x20cc,
  /** CS base in 16- and 32-bit code, else 0 (u64); mask of the instruction pointer (u64). */
  CODE_BASE: 0x20d0,
  CODE_MASK: 0x20d8,
  /** Ticks left when the executor returned (i32), and why it returned, one of `EXIT` (i32). */
  BUDGET: 0x20e0,
  EXIT: 0x20e4,
  /** Exception vector and error code (-1: none) of EXIT.EXCEPTION (i32 each). */
  EXCEPTION_VECTOR: 0x20e8,
  EXCEPTION_CODE: 0x20ec,
  /** Levels of the EPT: 4 or 5 (i32). */
  EPT_LEVELS: 0x20f0,
  /** Accesses to odd pages that the platform has let pass for the instruction at hand (i32 count, at most `ODD_PASSES_MAX`). */
  ODD_PASSES: 0x20f4,
  /** Host physical memory in bytes (u64). */
  RAM_SIZE: 0x20f8,
  /** `FPU_TRAP` bits that hold in the current mode (i32). */
  FPU_TRAPS: 0x21c0,
  /** Stack outside 64-bit mode: SS base (u64) and mask of the stack pointer, 0xffffffff or 0xffff (u64). */
  STACK_BASE: 0x21c8,
  STACK_MASK: 0x21d0,
  /** Host physical address of the access that failed with ODD_PAGE or WATCH (u64). */
  FAULT_HPA: 0x21d8,
  /** Bytes of the access under translation (i32). */
  ACCESS_BYTES: 0x21e0,
  /** Ticks that were left when STI opened the interrupt window (i32): what is left later tells if its shadow has passed. */
  SHADOW_BUDGET: 0x21e8,
  /** What the last translation found: `WALK` bits (i32). */
  WALK: 0x21e4,
  /** 64 bytes in which a write that cannot be made in place is put together, and 64 more for a read. */
  BOUNCE: 0x2100,
  BOUNCE_READ: 0x2140,
  /** For each pass: host physical address (u64), WebAssembly address of what is found there (u64). */
  ODD_PASS_LINES: 0x3000,
  /** What accesses to odd pages find instead of memory: 64 bytes for each pass. */
  ODD_BYTES_FOUND: 0x3400,
  /** Record of the one instruction that was decoded from an odd page and is executed next, else 0 (i32). */
  ODD_RECORD: 0x2180,
  /** Non-zero: data accesses are noted in ACCESS_LOG and bypass the TLB (i32); how many there are (i32). */
  LOG_ACCESSES: 0x2184,
  ACCESS_COUNT: 0x2188,
  /** Accesses: linear address (u64), bytes (i32), 1 if for writing (i32). */
  ACCESS_LOG: 0x3800,
  /** Free for executors' temporaries (512 bytes). */
  SCRATCH: 0x2200,
} as const;

/** Most odd accesses of one instruction: bytes of two lines or pages of code and of data, and their page walks. */
export const ODD_PASSES_MAX = 16;

/** Where soft-float works: unpacked operands, accumulated exception flags, rounding control, results wider than 64 bits. */
export const FPU = {
  /** Operands, `FPU_OPERAND` each. */
  A: 0x2500,
  B: 0x2520,
  /** Exception flags of the operation, as in MXCSR and FSW: IE DE ZE OE UE PE (i32). */
  FLAGS: 0x2540,
  /** `FPU_CONTROL` bits (i32). */
  CONTROL: 0x2544,
  /** Result in double-extended format: significand (i64), sign and exponent (i32). */
  RESULT: 0x2548,
  RESULT_EXPONENT: 0x2550,
  /** C1: the last rounding was away from zero (i32). */
  ROUNDED_UP: 0x2554,
  /** Low half of a 128-bit intermediate (i64), and temporaries. */
  LOW: 0x2558,
  TEMPORARY: 0x2560,
} as const;

/** An unpacked number: value = significand * 2^(exponent - 63). */
export const FPU_OPERAND = {
  /** i64; bit 63 is set in a finite number other than zero. In a NaN bit 62 is the quiet bit. */
  SIGNIFICAND: 0,
  /** i32, unbiased. */
  EXPONENT: 8,
  /** i32, 0 or 1. */
  SIGN: 12,
  /** i32, one of `FPU_CLASS`. */
  CLASS: 16,
  /** i32, 1 if the number was denormal. */
  DENORMAL: 20,
} as const;

export const FPU_CLASS = { ZERO: 0, FINITE: 1, INFINITY: 2, QUIET: 3, SIGNALING: 4 } as const;

/** What governs rounding and denormals. */
export const FPU_CONTROL = {
  /** Bits 1:0 as RC: nearest even, down, up, toward zero. */
  ROUNDING: 3,
  /** Denormal operands count as zero; tiny results become zero (MXCSR.DAZ, MXCSR.FZ with UE masked). */
  DENORMALS_ARE_ZERO: 4,
  FLUSH_TO_ZERO: 8,
  /** Underflow is unmasked: tininess alone raises UE. */
  UNDERFLOW_UNMASKED: 16,
  /** Overflow is unmasked: it does not make an exact result inexact, and double-extended results keep their significand and get an exponent that is 24576 off. */
  OVERFLOW_UNMASKED: 32,
} as const;

/** Why the executor returned (`LOCAL.EXIT`). RIP is exact in every case. */
export const EXIT = {
  /** The slice is used up. */
  BUDGET: 0,
  /** A memory access failed, see FAULT_KIND; the instruction has not changed anything and is not retired. */
  FAULT: 1,
  /** The record at RIP is a system instruction. */
  SYSTEM: 2,
  /** Nothing is decoded at RIP. */
  DECODE: 3,
  /** EXCEPTION_VECTOR is to be raised; the instruction is not retired. */
  EXCEPTION: 4,
  /** RIP is BREAK_RIP. */
  BREAK: 5,
  /** The instruction fetch at RIP failed, see FAULT_KIND. */
  FETCH_FAULT: 6,
} as const;

/** Facts about the last translation (`LOCAL.WALK`). */
export const WALK = {
  /** Writes are permitted and the dirty flag is set. */
  WRITABLE: 1,
  /** An odd page that the platform let pass: it must not enter a TLB. */
  ODD: 2,
  /** Shared guest physical address. */
  SHARED: 4,
} as const;

/** Why the memory slow path could not give an address (`LOCAL.FAULT_KIND`). */
export const FAULT = {
  NONE: 0,
  /** #PF; error code in FAULT_CODE, address in FAULT_ADDRESS. */
  PAGE: 1,
  /** EPT violation; qualification in FAULT_CODE, FAULT_GPA and FAULT_ADDRESS. */
  EPT_VIOLATION: 2,
  /** EPT misconfiguration. */
  EPT_MISCONFIG: 3,
  /** The page has lines that are poisoned or not owned by the accessor: the platform decides (FAULT_GPA, FAULT_CODE). */
  ODD_PAGE: 4,
  /** WATCH_LOAD met a load from a private page. */
  WATCH: 5,
  /** #GP(0): address not canonical, or segment limit; */
  GENERAL: 6,
  /** #SS(0). */
  STACK: 7,
} as const;

/** Software TLBs. */
export const TLB = {
  /** Three data TLBs: supervisor with SMAP enforced, supervisor free to touch user pages, user. */
  DATA: 0x10000,
  DATA_MODES: 3,
  DATA_ENTRIES: 1024,
  /** u64 linear page if readable, u64 linear page if writable, i32 addend, padding. An empty tag is all-ones. */
  DATA_ENTRY_SIZE: 32,
  /** Two fetch TLBs: supervisor, user. Entry: u64 linear page, i32 index address, i32 WebAssembly page address. */
  FETCH: 0x30000,
  FETCH_MODES: 2,
  FETCH_ENTRIES: 1024,
  FETCH_ENTRY_SIZE: 16,
  /** Cache of finished EPT walks: u64 guest physical page, u32 WebAssembly address of the page, u32 rights (1 R, 2 W, 4 X). */
  GPA: 0x40000,
  GPA_ENTRIES: 4096,
  GPA_ENTRY_SIZE: 16,
} as const;

/**
 * One u32 per host physical page: KeyID of the owner in bits 15:0 (0: the host), then flags. A page is *odd* when not
 * all of its 64 lines are clean and owned by that KeyID.
 */
export const PAGE_META = {
  BASE: 0x100000,
  KEY_ID_MASK: 0xffff,
  /** Not uniform, or some line poisoned: never enters a TLB. */
  ODD: 1 << 16,
  /** Decoded records exist: writes take the slow path. */
  CODE: 1 << 17,
  /** No byte was ever written: known to be zero. */
  UNTOUCHED_ZERO: 1 << 18,
  /** A translation to this page may be cached: a change of its owner must drop it. */
  CACHED: 1 << 19,
  /** Software poison (PG_hwpoison) is the host's own business and is not kept here. */
} as const;

/** Two tables of one u32 per host physical page: address of its offset index, 0 if nothing is decoded. */
export const CODE_TABLE = { LONG: 0x500000, LEGACY: 0x900000 } as const;

/**
 * Offset indexes, one per page of code: one u32 record address per byte of the page, 0 if not decoded; then the record of
 * the instruction that crosses into this page from the one before (u32, 0 if none).
 */
export const INDEX_ARENA = { BASE: 0x1000000, END: 0x4000000, SIZE: 0x4040, CROSSING: 0x4000 } as const;

/** Decoded records. */
export const RECORD_ARENA = { BASE: 0x4000000, END: 0x8000000 } as const;

/** One decoded instruction. */
export const RECORD_SIZE = 32;
export const RECORD = {
  /** u16: handler. 0 is HANDLER_INVALID. */
  HANDLER: 0,
  /** u8: length of the instruction in bytes. */
  LENGTH: 2,
  /** u8: left shift of the index register in bits 1:0, then `ADDRESSING` flags. */
  SCALE: 3,
  /** u16: address of the first and second register operand. */
  REG0: 4,
  REG1: 6,
  /** u16: addresses of base and index register and of the segment base. */
  BASE: 8,
  INDEX: 10,
  SEGMENT: 12,
  /** u16: offset of the instruction in its page. */
  OFFSET: 14,
  /** i64: immediate operand. */
  IMMEDIATE: 16,
  /** i32: displacement (relative to the start of the page when BASE is PAGE_BASE). */
  DISPLACEMENT: 24,
  /** u32: record of the branch target when it lies in the same page and is known, else 0. */
  TARGET: 28,
} as const;

/** What makes x87, MMX and SSE instructions fault in the current mode (from CR0 and CR4). */
export const FPU_TRAP = {
  /** SSE: #UD (CR0.EM or no CR4.OSFXSR), #NM (CR0.TS). */
  SSE_UD: 1,
  SSE_NM: 2,
  /** x87: #NM (CR0.EM or CR0.TS). */
  X87_NM: 4,
  /** MMX: #UD (CR0.EM), #NM (CR0.TS). */
  MMX_UD: 8,
  MMX_NM: 16,
  /** FWAIT: #NM (CR0.MP and CR0.TS). */
  WAIT_NM: 32,
} as const;

/** Flags in RECORD.SCALE. */
export const ADDRESSING = {
  /** The offset is taken modulo 2^32 or 2^16. */
  BITS32: 0x10,
  BITS16: 0x20,
  /** 16- or 32-bit code: segment limit and rights apply. */
  LEGACY: 0x40,
} as const;

/** Host physical memory begins here. */
export const RAM_BASE = 0x8000000;
/** Most host physical memory that fits (bytes). */
export const RAM_MAX = 0x1_0000_0000 - RAM_BASE;
