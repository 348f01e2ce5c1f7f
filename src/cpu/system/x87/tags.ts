import { REG } from "../../layout.js";
import type { CpuState } from "../../state.js";

/** The tag word in its two forms. Only emptiness is kept by the processor; the rest follows from the registers. */

const TAG = { VALID: 0, ZERO: 1, SPECIAL: 2, EMPTY: 3 } as const;

/** Abridged tag byte: bit n set if physical register n is not empty. */
export function abridgedTags(state: CpuState): number {
  const tags = state.get16(REG.FTW);
  let abridged = 0;
  for (let n = 0; n < 8; n++) if (((tags >> (2 * n)) & 3) !== TAG.EMPTY) abridged |= 1 << n;
  return abridged;
}

function tagOf(exponent: number, significand: bigint): number {
  if (exponent === 0x7fff) return TAG.SPECIAL;
  if (exponent === 0) return significand === 0n ? TAG.ZERO : TAG.SPECIAL;
  return significand >> 63n ? TAG.VALID : TAG.SPECIAL;
}

/** Full tags from the abridged ones and the contents of the registers. */
export function fullTags(state: CpuState, abridged: number): number {
  let tags = 0;
  for (let n = 0; n < 8; n++) {
    const at = REG.FPR + n * 16;
    const tag = (abridged >> n) & 1 ? tagOf(state.get16(at + 8) & 0x7fff, state.get(at)) : TAG.EMPTY;
    tags |= tag << (2 * n);
  }
  return tags;
}
