import { createHash, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Sha512Blocks } from "./sha512-blocks.js";

/** Initial state of SHA-512 (FIPS 180-4 5.3.5). */
const INITIAL = [
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
];

/** SHA-512 of whole blocks, by the block function and FIPS 180-4's padding. */
function sha512(data: Uint8Array): string {
  const blocks = new Sha512Blocks();
  blocks.state.set(INITIAL);
  blocks.update(data);
  const padding = new Uint8Array(128);
  padding[0] = 0x80;
  new DataView(padding.buffer).setBigUint64(120, BigInt(data.length * 8));
  blocks.update(padding);
  return [...blocks.state].map((word) => word.toString(16).padStart(16, "0")).join("");
}

describe("SHA-512's block function", () => {
  it.each([0, 1, 2, 7, 495, 496, 1000])("agrees with node:crypto over %i blocks", (count) => {
    const data = randomBytes(count * 128);
    expect(sha512(data)).toBe(createHash("sha512").update(data).digest("hex"));
  });
});
