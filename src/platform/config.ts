/** What a platform is made of. Everything but the memory size has a default. */
export interface PlatformConfig {
  /** Bytes of host physical memory, SMRAM at its top included; a multiple of 1 MiB. */
  readonly hostMemoryBytes: number;
  readonly logicalProcessors?: number;
  readonly packages?: number;
  /** Seed of everything random: RDRAND in the TD, the module's draws. */
  readonly seed?: bigint;
  /** Firmware morphs machine checks of the core banks into SMIs (eMCA generation 2). */
  readonly emca?: boolean;
  /** Firmware wants corrected and no-action errors signalled by SMI (CSMI); default: as `emca`. */
  readonly csmi?: boolean;
  /** Local machine checks: only the logical processor concerned is told. */
  readonly lmce?: boolean;
  /** Machine checks in SEAM non-root are marked as such (MCG_CAP bit 12). */
  readonly seamNr?: boolean;
  /** Width of the KeyID field of a physical address. */
  readonly keyIdBits?: number;
  /** Number of those bits that must be non-zero in a private KeyID: the private KeyIDs are the upper part. */
  readonly tdxReservedKeyIdBits?: number;
  /** Back the memory by a SharedArrayBuffer; default: where the host has it. */
  readonly sharedMemory?: boolean;
}

const DEFAULTS = {
  logicalProcessors: 1,
  packages: 1,
  seed: 0n,
  emca: true,
  lmce: true,
  seamNr: true,
  keyIdBits: 6,
  tdxReservedKeyIdBits: 1,
} as const;

export type ResolvedConfig = Required<PlatformConfig>;

/** A configuration that no platform can have. */
export class PlatformConfigError extends Error {
  override readonly name = "PlatformConfigError";
}

/** Fills in the defaults and checks. */
export function resolveConfig(config: PlatformConfig): ResolvedConfig {
  const shared = typeof SharedArrayBuffer !== "undefined" && globalThis.crossOriginIsolated !== false;
  const resolved: ResolvedConfig = { ...DEFAULTS, csmi: config.emca ?? DEFAULTS.emca, sharedMemory: shared, ...config };
  const { hostMemoryBytes, logicalProcessors, packages, keyIdBits, tdxReservedKeyIdBits } = resolved;
  const expect = (ok: boolean, what: string): void => {
    if (!ok) throw new PlatformConfigError(what);
  };
  expect(hostMemoryBytes > 0 && hostMemoryBytes % 0x100000 === 0, "hostMemoryBytes must be a multiple of 1 MiB");
  expect(Number.isInteger(packages) && packages >= 1, "packages must be at least 1");
  expect(
    Number.isInteger(logicalProcessors) && logicalProcessors >= packages && logicalProcessors % packages === 0,
    "logicalProcessors must be a multiple of packages",
  );
  expect(logicalProcessors <= 255, "logicalProcessors must be at most 255");
  expect(keyIdBits >= 2 && keyIdBits <= 15, "keyIdBits must be 2 to 15");
  expect(
    tdxReservedKeyIdBits >= 1 && tdxReservedKeyIdBits < keyIdBits,
    "tdxReservedKeyIdBits must be at least 1 and less than keyIdBits",
  );
  return resolved;
}

/** Physical-address width of the CPU; the KeyID field is at its top. */
export const MAX_PHYSICAL_ADDRESS_BITS = 52;

/** How KeyIDs divide (MKTME partitioning): 0 is TME's, then the shared ones, then the private ones. */
export interface KeyIdLayout {
  readonly keyIdCount: number;
  readonly firstPrivateKeyId: number;
  /** Lowest bit of the KeyID field in a physical address. */
  readonly keyIdShift: number;
}

export function keyIdLayout(config: ResolvedConfig): KeyIdLayout {
  return {
    keyIdCount: 2 ** config.keyIdBits,
    firstPrivateKeyId: 2 ** (config.keyIdBits - config.tdxReservedKeyIdBits),
    keyIdShift: MAX_PHYSICAL_ADDRESS_BITS - config.keyIdBits,
  };
}

/** Bytes of SMRAM per logical processor: SMBASE + 64 KiB, as the save-state map needs. */
export const SMRAM_PER_PROCESSOR = 0x10000;

/** Where things lie in host physical memory. */
export interface MemoryMap {
  /** TSEG: a power of two in size, aligned, outside every CMR (SMRR). */
  readonly smram: { readonly base: number; readonly size: number };
  /** Convertible memory ranges: all the rest. */
  readonly cmrs: readonly { readonly base: number; readonly size: number }[];
}

export function memoryMap(config: ResolvedConfig): MemoryMap {
  const smramSize = 2 ** Math.ceil(Math.log2(Math.max(0x100000, config.logicalProcessors * SMRAM_PER_PROCESSOR)));
  const base = Math.floor(config.hostMemoryBytes / smramSize) * smramSize - smramSize;
  if (base < 0x100000) throw new PlatformConfigError("hostMemoryBytes leaves no memory beside SMRAM");
  const ranges = [
    { base: 0, size: base },
    { base: base + smramSize, size: config.hostMemoryBytes - base - smramSize },
  ];
  return { smram: { base, size: smramSize }, cmrs: ranges.filter((range) => range.size > 0) };
}
