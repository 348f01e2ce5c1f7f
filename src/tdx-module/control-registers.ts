/** Control registers of a TD: who owns which bit, and what a write means (tdx-module facts 5.5). */

const bit = (n: number): bigint => 1n << BigInt(n);
const bits = (high: number, low: number): bigint => (bit(high - low + 1) - 1n) << BigInt(low);

export const CR0 = {
  PE: bit(0),
  MP: bit(1),
  EM: bit(2),
  TS: bit(3),
  ET: bit(4),
  NE: bit(5),
  WP: bit(16),
  AM: bit(18),
  NW: bit(29),
  CD: bit(30),
  PG: bit(31),
} as const;
export const CR4 = {
  MCE: bit(6),
  VMXE: bit(13),
  SMXE: bit(14),
  KL: bit(19),
  PKE: bit(22),
  CET: bit(23),
  PKS: bit(24),
  UINTR: bit(25),
} as const;

/** CR0 bits that a write leaves as they are. */
const CR0_IGNORED = bits(28, 19) | bit(17) | bits(15, 6);
/** CR0 bits that the processor does not have. */
const CR0_RESERVED = bits(63, 32);
/** CR4 bits that are the module's, whatever the TD has. */
const CR4_OWNED = CR4.MCE | CR4.VMXE | CR4.SMXE | bit(15) | bits(63, 26);

export const CR = {
  /** Guest/host mask: PE, NE, NW, CD and all bits without a meaning; PG is the guest's. */
  CR0_MASK: CR0.PE | CR0.NE | CR0.NW | CR0.CD | CR0_RESERVED | CR0_IGNORED,
  CR0_SHADOW: CR0.PE | CR0.NE,
  CR4_SHADOW: CR4.MCE,
} as const;

/** Features of the TD on which CR4 bits depend. */
export interface Cr4Features {
  readonly pku: boolean;
  readonly cet: boolean;
  readonly uintr: boolean;
  readonly pks: boolean;
}

/** CR4 bits of features that the TD lacks: setting one is #GP. */
export const cr4Forbidden = (features: Cr4Features): bigint =>
  CR4.KL |
  (features.pku ? 0n : CR4.PKE) |
  (features.cet ? 0n : CR4.CET) |
  (features.uintr ? 0n : CR4.UINTR) |
  (features.pks ? 0n : CR4.PKS);

/** Guest/host mask of CR4; `fixed1` are the bits that the processor allows to be 1. */
export const cr4Mask = (fixed1: bigint, features: Cr4Features): bigint =>
  BigInt.asUintN(64, CR4_OWNED | cr4Forbidden(features) | ~fixed1);

/** What a write to a control register comes to. */
export type CrWrite =
  | { readonly kind: "gp" }
  | { readonly kind: "ve" }
  | { readonly kind: "write"; readonly value: bigint };

/** A write to CR0; `old` is the register's real value. */
export function writeCr0(value: bigint, old: bigint, cetEnabled: boolean): CrWrite {
  if ((value & CR0.PG) !== 0n && (value & CR0.PE) === 0n) return { kind: "gp" };
  // NW without CD is illegal in any processor.
  if ((value & CR0.NW) !== 0n && (value & CR0.CD) === 0n) return { kind: "gp" };
  if (cetEnabled && (value & CR0.WP) === 0n) return { kind: "gp" };
  if ((value & CR0.PE) === 0n || (value & CR0.NE) === 0n) return { kind: "ve" };
  if ((value & (CR0.NW | CR0.CD | CR0_RESERVED)) !== 0n) return { kind: "ve" };
  return { kind: "write", value: (value & ~CR0_IGNORED) | (old & CR0_IGNORED) };
}

/** LMSW: only MP, EM and TS change here; PE is 1 already. */
export const writeLmsw = (source: bigint, old: bigint): bigint => {
  const changed = CR0.MP | CR0.EM | CR0.TS;
  return (old & ~changed) | (source & changed);
};

/** A write to CR4 that exits: illegal, or #VE. */
export function writeCr4(value: bigint, fixed1: bigint, forbidden: bigint, writeProtect: boolean): CrWrite {
  if ((value & ~fixed1) !== 0n || (value & forbidden) !== 0n) return { kind: "gp" };
  if ((value & CR4.CET) !== 0n && !writeProtect) return { kind: "gp" };
  return { kind: "ve" };
}
