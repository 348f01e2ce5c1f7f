import { i32, load, store } from "../../wasm/expression.js";
import { LOCAL } from "../layout.js";
import type { Meaning } from "./meaning.js";

/**
 * MASKMOVQ, MASKMOVDQU: stores the bytes of operand 0 whose byte in operand 1 has its sign set, at rDI. The record's memory
 * operand is [rDI] with its segment.
 */
export function maskedStore(m: Meaning, bytes: 8 | 16): void {
  const { f } = m;
  const value = m.readVector(0);
  const mask = f.tmp(
    m
      .readVector(1)
      .test("i8x16Bitmask")
      .and((1 << bytes) - 1),
  );
  const address = m.currentLinear();
  f.if(mask, () => {
    const rest = f.temporary("i32");
    // All of the bytes lie in the pages of the first and the last one: with these probed, nothing fails half-way.
    m.writeAddress(address.add(mask.ctz().toI64U()), 1);
    m.writeAddress(address.add(i32(31).sub(mask.clz()).toI64U()), 1);
    f.emit(store.v128(i32(LOCAL.SCRATCH), value));
    f.set(rest, mask);
    f.loop((again) => {
      const n = f.tmp(rest.get.ctz());
      m.store(address.add(n.toI64U()), 1, load.i64_8U(n, LOCAL.SCRATCH));
      f.set(rest, rest.get.and(rest.get.sub(1)));
      f.brIf(again, rest.get);
    });
  });
}
