/**
 * How TDX module 1.5 virtualises CPUID: one row per leaf and sub-leaf that it knows. Registers are EAX, EBX, ECX, EDX.
 * What is not in the table causes #VE.
 */

export type CpuidRegisters = readonly [eax: number, ebx: number, ecx: number, edx: number];

/** Where a row's value comes from. */
export type CpuidSource =
  /** Native value under the row's masks. */
  | "native"
  /** Always zero. */
  | "zero"
  /** Always #VE. */
  | "ve"
  /** Native value if the TD has the feature, else zero. */
  | "monitor"
  | "perfmon"
  | "xfam"
  /** Topology of the TD if it has asked for it (TD_CTLS.ENUM_TOPOLOGY), else #VE. */
  | "topology"
  /** Made by the module. */
  | "module";

export interface CpuidRow {
  readonly leaf: number;
  /** null: the leaf has no sub-leaves. */
  readonly subleaf: number | null;
  readonly source: CpuidSource;
  /** Bits that TD_PARAMS sets as it likes. */
  readonly configurable: CpuidRegisters;
  /** Native bits that TD_PARAMS may clear. */
  readonly allowed: CpuidRegisters;
  /** Bits forced to 1. */
  readonly fixed1: CpuidRegisters;
  /** Bits forced to 0, or computed when the instruction executes. */
  readonly cleared: CpuidRegisters;
  /** XFAM bits of which at least one must be set for source "xfam". */
  readonly xfam: number;
}

const NONE: CpuidRegisters = [0, 0, 0, 0];
const ALL = 0xffff_ffff;
type Masks = Partial<Pick<CpuidRow, "configurable" | "allowed" | "fixed1" | "cleared" | "xfam">>;
const row = (leaf: number, subleaf: number | null, source: CpuidSource, masks: Masks = {}): CpuidRow => ({
  leaf,
  subleaf,
  source,
  configurable: masks.configurable ?? NONE,
  allowed: masks.allowed ?? NONE,
  fixed1: masks.fixed1 ?? NONE,
  cleared: masks.cleared ?? NONE,
  xfam: masks.xfam ?? 0,
});
const CACHE = {
  configurable: [0xffffc3ff, 0xfffff000, ALL, 0xfffffffb] as const,
  cleared: [0x3c00, 0, 0, 4] as const,
};
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** XFAM bits by feature (the numbering of XCR0 | IA32_XSS). */
export const XFAM = {
  X87: 1 << 0,
  SSE: 1 << 1,
  AVX: 1 << 2,
  AVX512: 7 << 5,
  PT: 1 << 8,
  PKRU: 1 << 9,
  CET: 3 << 11,
  UINTR: 1 << 14,
  LBR: 1 << 15,
  AMX: 3 << 17,
} as const;
/** XFAM bits that a TD may have (1.5; those of the processor only), and must have. */
export const XFAM_FIXED0 = 0x6dbe7;
export const XFAM_FIXED1 = 3;

/** Highest basic and extended leaf that a TD sees. */
export const CPUID_MAX_BASIC = 0x23;
export const CPUID_MAX_EXTENDED = 0x8000_0008;

/** tdx-module facts 7.5, td-guest-boot facts 1.9 (leaf 6: ARAT, as late 1.5 modules report). */
export const CPUID_TABLE: readonly CpuidRow[] = [
  row(0, null, "native"),
  row(1, null, "native", {
    configurable: [0x0fff3fff, 0x00ff0000, 0, 0],
    allowed: [0, 0, 0x31044d88, 0xb8440000],
    fixed1: [0, 0, 0x80000000, 0x200],
    cleared: [0xf000c000, 0xff0000ff, 0x08010060, 0x40120400],
  }),
  row(2, null, "ve"),
  row(3, null, "zero"),
  ...range(0, 2).map((subleaf) => row(4, subleaf, "native", CACHE)),
  row(4, 3, "native", {
    configurable: [0xffffc3ff, 0xfffff000, ALL, 7],
    cleared: [0x3c00, 0, 0, 0xfffffff8],
  }),
  row(4, 4, "zero"),
  row(5, null, "monitor", { cleared: [0xffff0000, 0xffff0000, 0xfffffffc, 0] }),
  row(6, null, "module"),
  row(7, 0, "native", {
    allowed: [0, 0xdc2b9b18, 0x02417f65, 0x0005411c],
    cleared: [0, 0x404006, 0x643e8010, 0x2298c3],
  }),
  row(7, 1, "native", { allowed: [0x1d30, 0, 0, 0], cleared: [0xffffe2cf, ALL, ALL, ALL] }),
  row(7, 2, "native", { allowed: [0, 0, 0, 0x28], cleared: [ALL, ALL, ALL, 0xffffffc0] }),
  row(8, null, "zero"),
  row(9, null, "ve"),
  row(0xa, null, "perfmon", { cleared: [0, 0, 0, 0xffff6000] }),
  ...range(0, 1).map((subleaf) => row(0xb, subleaf, "topology")),
  row(0xd, 0, "native", { cleared: [0xfff9fd18, 0, 0, ALL] }),
  row(0xd, 1, "native", { cleared: [0xffffffe0, 0, 0xffff26ff, ALL] }),
  ...range(2, 18).map((bit) => row(0xd, bit, "xfam", { xfam: 1 << bit })),
  row(0xe, null, "zero"),
  row(0xf, null, "ve"),
  row(0x10, null, "ve"),
  row(0x11, null, "zero"),
  row(0x12, null, "zero"),
  row(0x13, null, "zero"),
  row(0x14, 0, "xfam", { xfam: XFAM.PT }),
  row(0x14, 1, "xfam", { xfam: XFAM.PT }),
  row(0x15, null, "module"),
  row(0x16, null, "ve"),
  row(0x17, null, "ve"),
  row(0x18, null, "ve"),
  row(0x19, null, "zero"),
  row(0x1a, null, "ve"),
  row(0x1b, null, "ve"),
  row(0x1c, null, "xfam", { xfam: XFAM.LBR, allowed: [0xff, 0, 0, 0] }),
  row(0x1d, 0, "xfam", { xfam: XFAM.AMX }),
  row(0x1d, 1, "xfam", { xfam: XFAM.AMX }),
  row(0x1e, 0, "xfam", { xfam: XFAM.AMX }),
  ...range(0, 5).map((subleaf) => row(0x1f, subleaf, "topology")),
  row(0x20, null, "zero"),
  row(0x21, 0, "module"),
  row(0x22, null, "zero"),
  row(0x23, 0, "perfmon", { allowed: [0xf, 0, 0, 0], cleared: [0xfffffff0, 0, 0, 0] }),
  ...range(1, 3).map((subleaf) => row(0x23, subleaf, "perfmon")),
  row(0x80000000, null, "native"),
  row(0x80000001, null, "native", { cleared: [0, 0, 0xfffffede, 0xd3efffff] }),
  ...range(0x80000002, 0x80000006).map((leaf) => row(leaf, null, "ve")),
  row(0x80000007, null, "native", { cleared: [0, 0, 0, 0xfffffeff] }),
  row(0x80000008, null, "native", { allowed: [0, 0x200, 0, 0], cleared: [0xffff0000, 0xfffffdff, 0, 0] }),
];

/** Rows that TD_PARAMS configures, in the order in which the module reports them; the last column: only with PERFMON. */
export const CPUID_CONFIG_ORDER: readonly (readonly [leaf: number, subleaf: number | null])[] = [
  [1, null],
  [4, 0],
  [4, 1],
  [4, 2],
  [4, 3],
  [7, 0],
  [7, 1],
  [0xa, null],
  [0x1c, null],
  [0x80000008, null],
  [7, 2],
  [0x23, 0],
];

/** CPUID bits that exist in a TD only with an XFAM bit: leaf, sub-leaf, register (0 = EAX), bits. */
export const CPUID_XFAM_BITS: readonly (readonly [
  xfam: number,
  leaf: number,
  subleaf: number | null,
  register: number,
  bits: number,
])[] = [
  [XFAM.AVX, 1, null, 2, 0x30001000],
  [XFAM.AVX, 7, 0, 1, 0x20],
  [XFAM.AVX, 7, 0, 2, 0x600],
  [XFAM.AVX512, 7, 0, 1, 0xdc230000],
  [XFAM.AVX512, 7, 0, 2, 0x5842],
  [XFAM.AVX512, 7, 0, 3, 0x80010c],
  [XFAM.AVX512, 7, 1, 0, 0x30],
  [XFAM.PT, 7, 0, 1, 0x02000000],
  [XFAM.PKRU, 7, 0, 2, 0x8],
  [XFAM.CET, 7, 0, 2, 0x80],
  [XFAM.CET, 7, 0, 3, 0x100000],
  [XFAM.UINTR, 7, 0, 3, 0x20],
  [XFAM.LBR, 7, 0, 3, 0x80000],
  [XFAM.AMX, 7, 0, 3, 0x03400000],
];

/** Bits by name that the module computes or tests. */
export const CPUID_BIT = {
  L1_ECX_MONITOR: 1 << 3,
  L1_ECX_TSC_DEADLINE: 1 << 24,
  L1_ECX_DCA: 1 << 18,
  L1_ECX_OSXSAVE: 1 << 27,
  L7_EBX_HLE: 1 << 4,
  L7_EBX_RTM: 1 << 11,
  L7_ECX_PKU: 1 << 3,
  L7_ECX_OSPKE: 1 << 4,
  L7_ECX_WAITPKG: 1 << 5,
  L7_ECX_TME: 1 << 13,
  L7_ECX_LA57: 1 << 16,
  L7_ECX_PKS: 0x8000_0000,
  L7_EDX_PCONFIG: 1 << 18,
  LX1_EDX_SYSCALL: 1 << 11,
  L6_EAX_ARAT: 1 << 2,
} as const;

/** Leaf 0x21.0: "IntelTDX    " in EBX, EDX, ECX. */
export const CPUID_TDX: CpuidRegisters = [0, 0x65746e49, 0x20202020, 0x5844546c];
/** The crystal clock that leaf 0x15 tells a TD, in Hz; TSC_FREQUENCY counts in it. */
export const TD_CRYSTAL_HZ = 25_000_000;

/** What TDH.SYS.INIT demands of the processor: leaf, sub-leaf, mask and value of each register. */
export const CPUID_REQUIRED: readonly (readonly [
  leaf: number,
  subleaf: number,
  mask: CpuidRegisters,
  value: CpuidRegisters,
])[] = [
  [0, 0, [0, ALL, ALL, ALL], [0, 0x756e6547, 0x6c65746e, 0x49656e69]],
  [1, 0, [0, 0, 0x47faa217, 0x1fa9fbff], [0, 0, 0x47faa217, 0x1fa9fbff]],
  [7, 0, [ALL, 0x219424c3, 0, 0], [2, 0x219424c3, 0, 0]],
  [4, 3, [0, 0, 0, 1], NONE],
  [0x14, 0, [ALL, 0, 0, 0], [1, 0, 0, 0]],
  [0x80000006, 0, [0, 0, 0xff, 0], [0, 0, 64, 0]],
  [0x80000007, 0, [0, 0, 0, 0x100], [0, 0, 0, 0x100]],
  [0x80000008, 0, [0xff, 0x200, 0, 0], [0x34, 0x200, 0, 0]],
];
