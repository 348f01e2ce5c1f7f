import { type I32, type I64, i32, load } from "../../wasm/expression.js";
import { LOCAL, TLB } from "../layout.js";

/** Where a translation lies that the generated module remembers: direct-mapped by page number, 16 bytes an entry. */
const slot = (address: I64, entries: number, base: I32 | number): I32 =>
  address
    .shrU(12n)
    .toI32()
    .and(entries - 1)
    .shl(4)
    .add(base);

/** Entry of the cache of finished EPT walks for a guest physical address. */
export const gpaSlot = (gpa: I64): I32 => slot(gpa, TLB.GPA_ENTRIES, TLB.GPA);

/** Entry of the fetch TLB in use for a linear address. */
export const fetchSlot = (linear: I64): I32 => slot(linear, TLB.FETCH_ENTRIES, load.i32(i32(LOCAL.FETCH_TLB)));
