import { ARENA } from "./arena.js";
import type { Random } from "./random.js";

/** Integers at which something changes: zero, one, the ends of every size, alternating bits, digits. */
const INTEGERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  7n,
  8n,
  15n,
  16n,
  31n,
  32n,
  33n,
  63n,
  64n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
  0xffff_ffff_ffff_fffen,
  0xffff_ffff_8000_0000n,
  0xffff_ffff_ffff_8000n,
  0xffff_ffff_ffff_ff80n,
  0xaaaa_aaaa_aaaa_aaaan,
  0x5555_5555_5555_5555n,
  0x0123_4567_89ab_cdefn,
  0x99n,
  0x9an,
  0xf9n,
  0xffff_0000_ffff_0000n,
];

/** Single-precision patterns: zeros, ones, ends of the ranges, halves, infinities, quiet and signalling NaNs, denormals. */
const SINGLES: readonly number[] = [
  0, 0x8000_0000, 0x3f80_0000, 0xbf80_0000, 0x3f00_0000, 0x3fc0_0000, 0x4020_0000, 0x4b00_0000, 0x4b80_0001,
  0x4eff_ffff, 0x4f00_0000, 0xcf00_0000, 0xcf00_0001, 0x5f00_0000, 0xdf00_0000, 0x7f7f_ffff, 0xff7f_ffff, 0x0080_0000,
  0x8080_0000, 0x007f_ffff, 0x0000_0001, 0x8000_0001, 0x0040_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0xffc0_0000,
  0x7fc1_2345, 0x7f80_0001, 0xffa0_0000, 0x7fff_ffff, 0x3f80_0001, 0x3f7f_ffff, 0x1f80_0000, 0x2000_0000, 0x5f80_0000,
];

/** The same for double precision. */
const DOUBLES: readonly bigint[] = [
  0n,
  0x8000_0000_0000_0000n,
  0x3ff0_0000_0000_0000n,
  0xbff0_0000_0000_0000n,
  0x3fe0_0000_0000_0000n,
  0x3ff8_0000_0000_0000n,
  0x4004_0000_0000_0000n,
  0x4330_0000_0000_0000n,
  0x4340_0000_0000_0001n,
  0x41df_ffff_ffc0_0000n,
  0x41e0_0000_0000_0000n,
  0xc1e0_0000_0000_0000n,
  0xc1e0_0000_0020_0000n,
  0x43e0_0000_0000_0000n,
  0xc3e0_0000_0000_0000n,
  0x7fef_ffff_ffff_ffffn,
  0xffef_ffff_ffff_ffffn,
  0x0010_0000_0000_0000n,
  0x8010_0000_0000_0000n,
  0x000f_ffff_ffff_ffffn,
  1n,
  0x8000_0000_0000_0001n,
  0x0008_0000_0000_0000n,
  0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n,
  0x7ff8_0000_0000_0000n,
  0xfff8_0000_0000_0000n,
  0x7ff8_1234_5678_9abcn,
  0x7ff0_0000_0000_0001n,
  0xfff4_0000_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0x3ff0_0000_0000_0001n,
  0x47ef_ffff_e000_0000n,
  0x47ef_ffff_f000_0000n,
  0x3690_0000_0000_0000n,
  0x3810_0000_0000_0000n,
  0x3800_0000_0000_0001n,
  0x1ff0_0000_0000_0000n,
  0x5fe0_0000_0000_0000n,
];

/** Extended precision: sign and exponent, significand. */
const EXTENDEDS: readonly (readonly [number, bigint])[] = [
  [0, 0n],
  [0x8000, 0n],
  [0x3fff, 1n << 63n],
  [0xbfff, 1n << 63n],
  [0x3ffe, 1n << 63n],
  [0x4000, 3n << 62n],
  [0x4000, 0xc90f_daa2_2168_c235n],
  [0x7ffe, 0xffff_ffff_ffff_ffffn],
  [0xfffe, 0xffff_ffff_ffff_ffffn],
  [1, 1n << 63n],
  [0x8001, 1n << 63n],
  [0, 0x7fff_ffff_ffff_ffffn],
  [0, 1n],
  [0x8000, 1n],
  [0, 1n << 63n],
  [0x7fff, 1n << 63n],
  [0xffff, 1n << 63n],
  [0x7fff, 3n << 62n],
  [0xffff, 3n << 62n],
  [0x7fff, (1n << 63n) | 1n],
  [0x7fff, (3n << 62n) | 0x1234n],
  [0x7fff, 0n],
  [0x7fff, 1n],
  [0x4000, 1n << 62n],
  [0x4001, 0n],
  [0x403e, 1n << 63n],
  [0xc03e, 1n << 63n],
  [0x403e, 0xffff_ffff_ffff_ffffn],
  [0x403d, 0xffff_ffff_ffff_fffen],
  [0x401e, 0xffff_ffff_0000_0000n],
  [0x400e, 0xffff_8000_0000_0000n],
  [0x43fe, 0xffff_ffff_ffff_f800n],
  [0x407e, 0xffff_ff00_0000_0000n],
  [0x3f80, 1n << 63n],
  [0x3c00, 1n << 63n],
  [0x4039, 0xde0b_6b3a_763f_ffffn],
  [0x403a, 0x8ac7_2304_89e8_0000n],
  [0x3ffd, 0xaaaa_aaaa_aaaa_aaabn],
];

/** What the bytes of a vector stand for. */
export type Kind = "bytes" | "integers" | "single" | "double" | "extended" | "decimal";

export function integer(random: Random): bigint {
  const choice = random.below(100);
  if (choice < 35) return random.pick(INTEGERS);
  if (choice < 70) return random.u64();
  if (choice < 80) return BigInt(random.below(256));
  if (choice < 85) return BigInt.asUintN(64, -BigInt(random.below(256)));
  if (choice < 90) return random.u64() >> BigInt(random.below(64));
  return BigInt(ARENA.DATA + random.below(ARENA.DATA_SIZE));
}

function single(random: Random): number {
  if (random.chance(0.45)) return random.pick(SINGLES);
  const bits = random.u32();
  // Exponents near each other make sums in which bits meet.
  return random.chance(0.6) ? ((bits & 0x80ff_ffff) | ((0x7a + random.below(12)) << 23)) >>> 0 : bits;
}

function double(random: Random): bigint {
  if (random.chance(0.45)) return random.pick(DOUBLES);
  const bits = random.u64();
  return random.chance(0.6) ? (bits & 0x800f_ffff_ffff_ffffn) | (BigInt(0x3f8 + random.below(16)) << 52n) : bits;
}

function extended(random: Random): readonly [number, bigint] {
  if (random.chance(0.4)) return random.pick(EXTENDEDS);
  const sign = random.chance(0.5) ? 0x8000 : 0;
  const significand = random.chance(0.7)
    ? random.u64() | (1n << 63n)
    : (random.u64() << BigInt(random.below(63))) | (1n << 63n);
  if (random.chance(0.75)) return [sign | (0x3ff0 + random.below(0x50)), BigInt.asUintN(64, significand)];
  return [sign | random.below(0x8000), random.chance(0.9) ? BigInt.asUintN(64, significand) : random.u64()];
}

/** Writes an x87 register of 10 bytes. */
export function writeExtended(random: Random, view: DataView, offset: number): void {
  const [high, significand] = extended(random);
  view.setBigUint64(offset, significand, true);
  view.setUint16(offset + 8, high, true);
}

/** Fills bytes with values of a kind; `view` covers them from `offset` on. */
export function fillKind(random: Random, kind: Kind, view: DataView, offset: number, bytes: number): void {
  let at = offset;
  const end = offset + bytes;
  switch (kind) {
    case "single":
      for (; at + 4 <= end; at += 4) view.setUint32(at, single(random), true);
      break;
    case "double":
      for (; at + 8 <= end; at += 8) view.setBigUint64(at, double(random), true);
      break;
    case "integers":
      for (; at + 8 <= end; at += 8) {
        const size = random.below(4);
        if (size === 3) view.setBigUint64(at, integer(random), true);
        else {
          const step = 1 << size;
          for (let n = 0; n < 8; n += step) {
            const value = Number(integer(random) & 0xffff_ffffn);
            if (size === 0) view.setUint8(at + n, value & 0xff);
            else if (size === 1) view.setUint16(at + n, value & 0xffff, true);
            else view.setUint32(at + n, value, true);
          }
        }
      }
      break;
    case "extended":
      if (bytes >= 10) {
        writeExtended(random, view, at);
        at += 10;
      }
      break;
    case "decimal":
      for (; at < end; at++) view.setUint8(at, random.below(10) * 16 + random.below(10));
      break;
    default:
  }
  for (; at < end; at++) view.setUint8(at, random.u32() >>> 24);
}
