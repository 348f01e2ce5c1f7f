import { PAGE_SIZE } from "./layout.js";

/** Page-table entry bits (SDM 3A 4.5). */
const PRESENT = 1n << 0n;
const WRITABLE = 1n << 1n;
const LARGE = 1n << 7n;

const ENTRIES = 512;
const LARGE_PAGE = 0x20_0000n;
/** Page directories: one per GiB. */
const DIRECTORIES = 4;

/** PML4, PDPT and four page directories. */
export const IDENTITY_MAP_SIZE = (2 + DIRECTORIES) * PAGE_SIZE;

/**
 * 4-level page tables that map the first 4 GiB to themselves by 2 MiB pages, all private.
 * @param base guest physical address at which they will lie.
 */
export function identityMap(base: number): Uint8Array {
  const bytes = new Uint8Array(IDENTITY_MAP_SIZE);
  const view = new DataView(bytes.buffer);
  const link = (table: number, entry: number, to: number) =>
    view.setBigUint64(table * PAGE_SIZE + entry * 8, BigInt(base + to * PAGE_SIZE) | PRESENT | WRITABLE, true);
  link(0, 0, 1);
  for (let directory = 0; directory < DIRECTORIES; directory++) {
    link(1, directory, 2 + directory);
    for (let entry = 0; entry < ENTRIES; entry++) {
      const page = BigInt(directory * ENTRIES + entry) * LARGE_PAGE;
      view.setBigUint64((2 + directory) * PAGE_SIZE + entry * 8, page | PRESENT | WRITABLE | LARGE, true);
    }
  }
  return bytes;
}
