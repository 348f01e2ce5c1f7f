import { compute } from "./behaviours/compute.js";
import { hello } from "./behaviours/hello.js";
import { story } from "./behaviours/story.js";
import type { SmallTd } from "./small-td.js";

/** Every small TD, in the order of a list. */
export const SMALL_TDS: readonly SmallTd[] = [hello, compute, story];
