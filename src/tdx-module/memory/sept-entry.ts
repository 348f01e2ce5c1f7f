/**
 * A Secure EPT entry, in two halves of 32 bits so that no bigint is made: `low` has the rights and HPA bits 31:12,
 * `high` HPA bits 51:32 in 19:0 and the module's flags above (tdx-module facts 6.1 and 6.2).
 */

const RWX = 7;
const MEMORY_TYPE_WB = 6 << 3;
const IPAT = 1 << 6;
const LEAF = 1 << 7;
const DIRTY = 1 << 9;
const SUPPRESS_VE = 0x8000_0000;

/** A free entry: what a new table page is filled with. */
export const FREE_LOW = 0;
export const FREE_HIGH = 0x80e0_0000;

/** State encoding: entry bits 7:6 in 6:5, 56:53 in 4:1, 9 in 0. */
export const SEPT = {
  FREE: 0x0e,
  REMOVED: 0x0c,
  NL_MAPPED: 0x00,
  NL_BLOCKED: 0x08,
  MAPPED: 0x60,
  BLOCKED: 0x68,
  BLOCKEDW: 0x64,
  EXPORTED_BLOCKEDW: 0x66,
  EXPORTED_DIRTY: 0x63,
  EXPORTED_DIRTY_BLOCKEDW: 0x67,
  PENDING: 0x70,
  PENDING_BLOCKED: 0x78,
  PENDING_BLOCKEDW: 0x74,
  PENDING_EXPORTED_BLOCKEDW: 0x76,
  PENDING_EXPORTED_DIRTY: 0x73,
  PENDING_EXPORTED_DIRTY_BLOCKEDW: 0x77,
} as const;

interface SeptStateRow {
  /** State as the host sees it. */
  readonly public: number;
  readonly leaf: boolean;
  /** The guest may read, write and execute. */
  readonly accessible: boolean;
  /** Must be blocked and tracked before the entry is taken from a running TD. */
  readonly tracked: boolean;
  /** The state after TDH.MEM.RANGE.BLOCK, null where it is not allowed. */
  readonly blocked: number | null;
  /** The state after TDH.MEM.RANGE.UNBLOCK. */
  readonly unblocked: number | null;
}

const row = (
  shown: number,
  leaf: boolean,
  accessible: boolean,
  blocked: number | null = null,
  unblocked: number | null = null,
  tracked = true,
): SeptStateRow => ({ public: shown, leaf, accessible, tracked, blocked, unblocked });

const ROWS = new Map<number, SeptStateRow>([
  [SEPT.FREE, row(0, false, false, null, null, false)],
  [SEPT.REMOVED, row(5, false, false, null, null, false)],
  [SEPT.NL_MAPPED, row(0x84, false, false, SEPT.NL_BLOCKED)],
  [SEPT.NL_BLOCKED, row(0x81, false, false, null, SEPT.NL_MAPPED)],
  [SEPT.MAPPED, row(4, true, true, SEPT.BLOCKED)],
  [SEPT.BLOCKED, row(1, true, false, null, SEPT.MAPPED)],
  [SEPT.BLOCKEDW, row(8, true, true, SEPT.BLOCKED)],
  [SEPT.EXPORTED_BLOCKEDW, row(9, true, true, null, null, false)],
  [SEPT.EXPORTED_DIRTY, row(0x0b, true, true)],
  [SEPT.EXPORTED_DIRTY_BLOCKEDW, row(0x0c, true, true)],
  [SEPT.PENDING, row(2, true, false, SEPT.PENDING_BLOCKED)],
  [SEPT.PENDING_BLOCKED, row(3, true, false, null, SEPT.PENDING)],
  [SEPT.PENDING_BLOCKEDW, row(0x10, true, false, SEPT.PENDING_BLOCKED)],
  [SEPT.PENDING_EXPORTED_BLOCKEDW, row(0x11, true, false, null, null, false)],
  [SEPT.PENDING_EXPORTED_DIRTY, row(0x13, true, false)],
  [SEPT.PENDING_EXPORTED_DIRTY_BLOCKEDW, row(0x14, true, false)],
]);
const UNKNOWN = row(0xff, false, false);
const TABLE: readonly SeptStateRow[] = Array.from({ length: 128 }, (_, state) => ROWS.get(state) ?? UNKNOWN);

/** What is known of a state. */
export const septState = (state: number): SeptStateRow => TABLE[state] as SeptStateRow;

/** State of an entry. */
export const stateOf = (low: number, high: number): number =>
  (((low >>> 6) & 3) << 5) | (((high >>> 21) & 0xf) << 1) | ((low >>> 9) & 1);

/** Rights that a state gives the guest. */
const rightsOf = (state: number): number => {
  if (state === SEPT.NL_MAPPED || state === SEPT.MAPPED || state === SEPT.EXPORTED_DIRTY) return RWX;
  return septState(state).accessible ? RWX & ~2 : 0;
};

/** Low half of an entry in `state` that points to the page `hpa`. */
export const lowOf = (hpa: number, state: number): number => {
  const leaf = septState(state).leaf ? LEAF | IPAT | MEMORY_TYPE_WB : 0;
  return ((hpa & 0xffff_f000) | leaf | (state & 1 ? DIRTY : 0) | rightsOf(state)) >>> 0;
};
/** High half. */
export const highOf = (hpa: number, state: number): number =>
  (Math.floor(hpa / 0x1_0000_0000) | (((state >>> 1) & 0xf) << 21) | SUPPRESS_VE) >>> 0;

/** Page that an entry points to. */
export const hpaOf = (low: number, high: number): number =>
  (high & 0xf_ffff) * 0x1_0000_0000 + ((low & 0xffff_f000) >>> 0);

/** Low half as the host sees it: nothing of a free entry, no address of a table (tdx-module facts 6.3). */
export const architecturalLow = (low: number, state: number): number => {
  if (state === SEPT.FREE || state === SEPT.REMOVED) return 0;
  const kept = septState(state).leaf ? 0xffff_f000 | RWX | (7 << 3) | IPAT | LEAF : RWX | LEAF;
  return (low & kept) >>> 0;
};
/** High half as the host sees it. */
export const architecturalHigh = (high: number, state: number): number =>
  (septState(state).leaf ? (high & 0xf_ffff) | SUPPRESS_VE : SUPPRESS_VE) >>> 0;
