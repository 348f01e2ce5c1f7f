import { PAGE_SIZE } from "../../arch/page.js";

export { PAGE_SIZE };
/** Bytes of a cache line. */
export const LINE_SIZE = 64;
export const LINES_PER_PAGE = PAGE_SIZE / LINE_SIZE;

/**
 * Why a line holds poison, as the memory controller logs it: its contents do not match their integrity check value
 * (memory error, or read with a foreign private KeyID), or it was read privately while the TD-owner bit was clear.
 */
export type PoisonCause = "integrity" | "owner";

/** What is stored beside a line (tdx-module facts 10). */
export interface LineState {
  /** KeyID that wrote the line; 0 for the host's. */
  readonly keyId: number;
  /** The TD-owner bit. */
  readonly owner: boolean;
  readonly poison: PoisonCause | null;
}

/** Poison codes of `OddPage`. */
const NONE = 0;
const CAUSES: readonly (PoisonCause | null)[] = [null, "integrity", "owner"];

/** The lines of a page that is not uniform: not all clean and owned by one KeyID. */
export class OddPage {
  /** Owner of each line; 0 is the host, with the TD-owner bit clear. */
  readonly owners = new Uint16Array(LINES_PER_PAGE);
  readonly #poison = new Uint8Array(LINES_PER_PAGE);

  constructor(owner: number) {
    this.owners.fill(owner);
  }

  poison(line: number): PoisonCause | null {
    return CAUSES[this.#poison[line] as number] as PoisonCause | null;
  }

  setPoison(line: number, cause: PoisonCause | null): void {
    this.#poison[line] = CAUSES.indexOf(cause);
  }

  /** The one owner of all lines if the page is uniform again, else -1. */
  uniformOwner(): number {
    const owner = this.owners[0] as number;
    for (let line = 0; line < LINES_PER_PAGE; line++) {
      if (this.#poison[line] !== NONE || this.owners[line] !== owner) return -1;
    }
    return owner;
  }
}
