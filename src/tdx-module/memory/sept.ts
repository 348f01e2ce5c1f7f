import type { SeamMemory } from "../../platform/seam.js";
import type { Td } from "../structures/td.js";
import { TDCX } from "../structures/tdcs.js";
import { FREE_HIGH, FREE_LOW, highOf, hpaOf, lowOf, SEPT, stateOf } from "./sept-entry.js";

/** Entries of one table page. */
export const SEPT_ENTRIES = 512;

/** Bytes that an entry of a level maps. */
export const levelSize = (level: number): number => LEVEL_SIZES[level] as number;
const LEVEL_SIZES: readonly number[] = [12, 21, 30, 39, 48, 57].map((shift) => 2 ** shift);

/** A walk of a TD's Secure EPT, and the entry at which it ended. */
export class SeptWalk {
  memory!: SeamMemory;
  keyId = 0;
  /** Address of the entry found, its halves, level and state. */
  address = 0;
  low = 0;
  high = 0;
  level = 0;
  state: number = SEPT.FREE;

  /** Walks down to `level`. True: it got there; false: it ended above, at an entry that leads nowhere. */
  walk(td: Td, gpa: number, level: number): boolean {
    this.memory = td.tdcs.memory;
    this.keyId = td.hkid;
    let table = td.page(TDCX.SEPT_ROOT);
    for (let at = td.topLevel; ; at--) {
      this.load(table + (Math.floor(gpa / levelSize(at)) % SEPT_ENTRIES) * 8, at);
      if (at === level) return true;
      if (this.state !== SEPT.NL_MAPPED) return false;
      table = hpaOf(this.low, this.high);
    }
  }

  load(address: number, level: number): void {
    this.address = address;
    this.level = level;
    this.low = this.memory.read32(address, this.keyId) >>> 0;
    this.high = this.memory.read32(address + 4, this.keyId) >>> 0;
    this.state = stateOf(this.low, this.high);
  }

  /** Page that the entry points to. */
  get hpa(): number {
    return hpaOf(this.low, this.high);
  }

  /** Writes the entry: `state`, pointing to `hpa`. */
  set(hpa: number, state: number): void {
    this.memory.write32(this.address, lowOf(hpa, state), this.keyId);
    this.memory.write32(this.address + 4, highOf(hpa, state), this.keyId);
  }

  setFree(): void {
    this.memory.write32(this.address, FREE_LOW, this.keyId);
    this.memory.write32(this.address + 4, FREE_HIGH, this.keyId);
  }
}

/** Makes a page a table of free entries. */
export function initialiseTable(memory: SeamMemory, hpa: number, keyId: number): void {
  const page = new Uint32Array(0x400);
  for (let i = 0; i < page.length; i += 2) {
    page[i] = FREE_LOW;
    page[i + 1] = FREE_HIGH;
  }
  memory.fill(hpa, 0x1000, 0, keyId);
  memory.write(hpa, new Uint8Array(page.buffer), keyId);
}
