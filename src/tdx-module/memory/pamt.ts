import { PAGE_TYPE, PAMT_ENTRY_SIZE, PAMT_PAGE_SIZE } from "../../arch/tdx-abi.js";
import type { SeamMemory } from "../../platform/seam.js";
import type { ModuleState, Tdmr } from "../state.js";

/**
 * The physical address metadata table: who owns each page of TD memory. An entry has 16 bytes: lock 15:0, page type
 * 23:16, frame number of the owner's TDR 63:24, then the epoch at which the page was blocked (tdx-module facts 6.4).
 * There is one array per page size; the entry that counts is the first that is not free, from the largest size down.
 * Locks are always free: SEAMCALLs do not run at the same time.
 */

/** Bytes that an entry of each page size covers. */
const COVERS = [0x1000, 0x20_0000, 0x4000_0000] as const;
const TYPE = 2;
const OWNER_LOW = 3;
const OWNER_HIGH = 4;
const BEPOCH = 8;

export class Pamt {
  memory!: SeamMemory;
  #last: Tdmr | null = null;
  /** Result of `find`: address of the entry, its page size and type. */
  entry = 0;
  size = 0;
  type = 0;

  constructor(private readonly stateOf: () => ModuleState) {}

  /** Forgets what was found in an earlier state. */
  reset(): void {
    this.#last = null;
  }

  /** The TDMR of a page, if its PAMT entry exists and the page is not in a reserved area. */
  tdmrOf(hpa: number): Tdmr | null {
    const last = this.#last;
    if (last && hpa >= last.base && hpa < last.base + last.initialised) return last;
    for (const tdmr of this.stateOf().tdmrs) {
      if (hpa >= tdmr.base && hpa < tdmr.base + tdmr.initialised) {
        this.#last = tdmr;
        return tdmr;
      }
    }
    return null;
  }

  address(tdmr: Tdmr, hpa: number, size: number): number {
    const array = size === PAMT_PAGE_SIZE.P4K ? tdmr.pamt4k : size === PAMT_PAGE_SIZE.P2M ? tdmr.pamt2m : tdmr.pamt1g;
    return array + Math.floor((hpa - tdmr.base) / (COVERS[size] as number)) * PAMT_ENTRY_SIZE;
  }

  /** Finds the entry that says who has this page. False: the page is not TD memory. */
  find(hpa: number): boolean {
    const tdmr = this.tdmrOf(hpa);
    if (tdmr === null) return false;
    for (let size: number = PAMT_PAGE_SIZE.P1G; size >= 0; size--) {
      this.entry = this.address(tdmr, hpa, size);
      this.type = this.memory.read8(this.entry + TYPE, this.#keyId);
      this.size = size;
      if (this.type !== PAGE_TYPE.NDA) break;
    }
    return true;
  }

  /** True if no page of the 2 MiB around `hpa` is in use. */
  isRangeFree(hpa: number): boolean {
    const tdmr = this.tdmrOf(hpa);
    if (tdmr === null || !this.find(hpa) || this.size !== PAMT_PAGE_SIZE.P4K) return false;
    const first = this.address(tdmr, hpa - (hpa % 0x20_0000), PAMT_PAGE_SIZE.P4K);
    for (let i = 0; i < 512; i++) {
      if (this.memory.read8(first + i * PAMT_ENTRY_SIZE + TYPE, this.#keyId) !== PAGE_TYPE.NDA) return false;
    }
    return true;
  }

  /** Writes a whole entry; the epoch becomes 0. `owner` is the TDR's address, 0 for none. */
  write(entry: number, type: number, owner: number): void {
    const frame = owner / 0x1000;
    this.memory.write32(entry, ((type << 16) | ((frame & 0xff) << 24)) >>> 0, this.#keyId);
    this.memory.write32(entry + OWNER_HIGH, Math.floor(frame / 0x100), this.#keyId);
    this.setEpoch(entry, 0);
  }

  owner(entry: number): number {
    const low = this.memory.read8(entry + OWNER_LOW, this.#keyId);
    return ((this.memory.read32(entry + OWNER_HIGH, this.#keyId) >>> 0) * 0x100 + low) * 0x1000;
  }

  epoch(entry: number): number {
    const high = this.memory.read32(entry + BEPOCH + 4, this.#keyId) >>> 0;
    return high * 0x1_0000_0000 + (this.memory.read32(entry + BEPOCH, this.#keyId) >>> 0);
  }
  setEpoch(entry: number, epoch: number): void {
    this.memory.write32(entry + BEPOCH, epoch >>> 0, this.#keyId);
    this.memory.write32(entry + BEPOCH + 4, Math.floor(epoch / 0x1_0000_0000), this.#keyId);
  }

  get #keyId(): number {
    return this.stateOf().globalKeyId;
  }
}
