/** EAX, EBX, ECX, EDX. */
export type CpuidResult = readonly [number, number, number, number];

/** Shape of the machine that CPUID tells. */
export interface CpuidTopology {
  readonly x2apicId: number;
  readonly logicalProcessors: number;
  readonly packages: number;
}

/**
 * Native CPUID of the machine: the smallest CPU on which a TD may run (td-guest-boot facts 4.5), with fast strings. Vendor Intel,
 * a Sapphire Rapids signature, XCR0 = 3, no AVX. Each row has its required bits from the module's checks (tdx-module facts 7.5).
 */
type Row = readonly [leaf: number, subleaf: number | null, CpuidResult];

/** Four characters as the register that holds them. */
const text = (characters: string): number =>
  [...characters].reduce((value, character, index) => value | (character.charCodeAt(0) << (8 * index)), 0) >>> 0;

const brand = "Seamless virtual TDX processor".padEnd(48, "\0");
const brandLeaf = (part: number): CpuidResult => {
  const at = part * 16;
  return [0, 4, 8, 12].map((offset) => text(brand.slice(at + offset, at + offset + 4))) as unknown as CpuidResult;
};

/** Family 6, model 0x8F, stepping 8. */
export const CPU_SIGNATURE = 0x000806f8;
/** Highest basic leaf; must be at least 0x1F. */
export const MAX_BASIC_LEAF = 0x23;
export const MAX_EXTENDED_LEAF = 0x80000008;

const ZERO: CpuidResult = [0, 0, 0, 0];

/** A null sub-leaf: the leaf does not look at ECX. */
const ROWS: readonly Row[] = [
  [0x0, null, [MAX_BASIC_LEAF, text("Genu"), text("ntel"), text("ineI")]],
  // EBX is completed with the APIC id. ECX: required 0x47FAA217, plus VMX.
  [0x1, null, [CPU_SIGNATURE, 0x00000800, 0x47faa237, 0x1fa9fbff]],
  // Descriptor 0xFF: caches are described by leaf 4.
  [0x2, null, [0x00feff01, 0x000000f0, 0, 0]],
  // L1D 48 KiB 12-way, L1I 32 KiB 8-way, L2 2 MiB 16-way, L3 32 MiB 16-way, by thread, thread, thread, package.
  [0x4, 0, [0x00000121, 0x02c0003f, 0x0000003f, 0]],
  [0x4, 1, [0x00000122, 0x01c0003f, 0x0000003f, 0]],
  [0x4, 2, [0x00000143, 0x03c0003f, 0x000007ff, 0]],
  [0x4, 3, [0x00000163, 0x03c0003f, 0x00007fff, 0]],
  // ARAT: the APIC timer never stops.
  [0x6, null, [0x00000004, 0, 0, 0]],
  // EBX: required 0x219424C3, plus ERMS. ECX: required 0x19000000, plus TME. EDX: required 0xFC000400, plus FSRM.
  [0x7, 0, [2, 0x219426c3, 0x19002000, 0xfc000410]],
  [0x7, 1, ZERO],
  // PSFD, IPRED_CTRL, RRSBA_CTRL, BHI_CTRL.
  [0x7, 2, [0, 0, 0, 0x00000017]],
  // XCR0 may hold x87 and SSE: 576 bytes.
  [0xd, 0, [0x00000003, 0x00000240, 0x00000240, 0]],
  // XSAVEOPT, XSAVEC, XGETBV(1), XSAVES; no supervisor state.
  [0xd, 1, [0x0000000f, 0x00000240, 0, 0]],
  // One sub-leaf, as the module demands, and no tracing feature in it.
  [0x14, 0, [1, 0, 0, 0]],
  [0x14, 1, ZERO],
  // TSC 1 GHz = crystal 25 MHz * 40 / 1.
  [0x15, null, [1, 40, 25_000_000, 0]],
  [0x16, null, [1000, 1000, 100, 0]],
  [0x80000000, null, [MAX_EXTENDED_LEAF, 0, 0, 0]],
  // LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1 GiB pages, RDTSCP, 64-bit.
  [0x80000001, null, [0, 0, 0x00000121, 0x2c100800]],
  [0x80000002, null, brandLeaf(0)],
  [0x80000003, null, brandLeaf(1)],
  [0x80000004, null, brandLeaf(2)],
  [0x80000006, null, [0, 0, 0x08007040, 0]],
  // Invariant TSC.
  [0x80000007, null, [0, 0, 0, 0x00000100]],
  // 52 physical and 48 linear address bits; WBNOINVD.
  [0x80000008, null, [0x00003034, 0x00000200, 0, 0]],
];

const TABLE = new Map<number, Map<number | null, CpuidResult>>();
for (const [leaf, subleaf, result] of ROWS) {
  const leaves = TABLE.get(leaf) ?? new Map<number | null, CpuidResult>();
  leaves.set(subleaf, result);
  TABLE.set(leaf, leaves);
}

/** Executes CPUID outside a TD. */
export function nativeCpuid(leaf: number, subleaf: number, topology: CpuidTopology): CpuidResult {
  const extended = leaf >= 0x80000000;
  // Beyond the last leaf, the last basic leaf answers (SDM 2A, CPUID).
  const known = extended ? leaf <= MAX_EXTENDED_LEAF : leaf <= MAX_BASIC_LEAF;
  const asked = known ? leaf : MAX_BASIC_LEAF;
  if (asked === 0xb || asked === 0x1f) return topologyLeaf(subleaf, topology);
  const rows = TABLE.get(asked);
  const result = rows?.get(null) ?? rows?.get(subleaf) ?? ZERO;
  if (asked !== 1) return result;
  const perPackage = topology.logicalProcessors / topology.packages;
  return [
    result[0],
    result[1] | ((perPackage & 0xff) << 16) | ((topology.x2apicId & 0xff) << 24),
    result[2],
    result[3],
  ];
}

/** Leaves 0xB and 0x1F: one thread per core, cores of a package adjacent in the x2APIC id. */
function topologyLeaf(subleaf: number, topology: CpuidTopology): CpuidResult {
  const perPackage = topology.logicalProcessors / topology.packages;
  const shift = Math.ceil(Math.log2(perPackage));
  if (subleaf === 0) return [0, 1, 0x100, topology.x2apicId];
  if (subleaf === 1) return [shift, perPackage, 0x201, topology.x2apicId];
  return [0, 0, subleaf & 0xff, topology.x2apicId];
}
