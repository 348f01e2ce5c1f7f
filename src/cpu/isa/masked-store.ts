import { i32, load } from "../../wasm/expression.js";
import type { Meaning } from "./meaning.js";

/**
 * MASKMOVQ, MASKMOVDQU: stores the bytes of operand 0 whose byte in operand 1 has its sign set, at rDI. The record's memory
 * operand is [rDI] with its segment. Whether bytes that are not stored can fault is left to the processor; here, as on
 * AMD's, they do: the whole operand must be writable.
 */
export function maskedStore(m: Meaning, bytes: 8 | 16): void {
  const { f } = m;
  const value = m.readVector(0);
  const mask = f.tmp(m.readVector(1).shift("i8x16ShrS", i32(7)));
  const address = m.currentLinear();
  if (bytes === 8) {
    const old = m.loadForUpdate(address, 8);
    const chosen = f.tmp(mask.lane64(0));
    m.storeBack(8, value.lane64(0).and(chosen).or(old.and(chosen.not())));
    return;
  }
  const old = f.tmp(load.v128(m.writeAddress(address, 16)));
  m.store128(address, value.bitselect(old, mask), false);
}
