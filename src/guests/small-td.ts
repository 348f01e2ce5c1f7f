import type { EndOutcome } from "../vmm/end.js";
import type { TdImage } from "../vmm/td-image.js";

/** A trust domain of our own: one behaviour, in a few instructions. */
export interface SmallTd {
  readonly name: string;
  /** What it shows, for a list. */
  readonly summary: string;
  readonly vcpus: number;
  /** Bytes of RAM at GPA 0. */
  readonly memory: number;
  /** What it writes to its console if nothing strikes it. */
  readonly console: string;
  /** How it ends if nothing strikes it; undefined: it waits for good. */
  readonly outcome: EndOutcome | undefined;
  /** Its pages. */
  build(): TdImage;
}
