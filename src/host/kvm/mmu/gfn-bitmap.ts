/** Pages of a chunk of the bitmap: 128 MiB of guest memory. */
const CHUNK_PAGES = 32768;

/** One bit per guest page, sparse: which gfns are private. */
export class GfnBitmap {
  readonly #chunks = new Map<number, Uint8Array>();
  #lastIndex = -1;
  #last: Uint8Array | undefined;

  has(gfn: number): boolean {
    const index = Math.floor(gfn / CHUNK_PAGES);
    if (index !== this.#lastIndex) {
      this.#lastIndex = index;
      this.#last = this.#chunks.get(index);
    }
    const at = gfn % CHUNK_PAGES;
    return (((this.#last?.[at >> 3] ?? 0) >> (at & 7)) & 1) === 1;
  }

  set(start: number, end: number, value: boolean): void {
    this.#lastIndex = -1;
    for (let gfn = start; gfn < end; ) {
      const index = Math.floor(gfn / CHUNK_PAGES);
      const stop = Math.min(end, (index + 1) * CHUNK_PAGES);
      const chunk = this.#chunks.get(index) ?? (value ? this.#add(index) : undefined);
      if (chunk !== undefined) setBits(chunk, gfn - index * CHUNK_PAGES, stop - index * CHUNK_PAGES, value);
      gfn = stop;
    }
  }

  /** True if every page of the range has the value. */
  isUniform(start: number, end: number, value: boolean): boolean {
    for (let gfn = start; gfn < end; gfn++) if (this.has(gfn) !== value) return false;
    return true;
  }

  #add(index: number): Uint8Array {
    const chunk = new Uint8Array(CHUNK_PAGES / 8);
    this.#chunks.set(index, chunk);
    return chunk;
  }
}

function setBits(chunk: Uint8Array, start: number, end: number, value: boolean): void {
  for (let at = start; at < end; ) {
    if ((at & 7) === 0 && at + 8 <= end) {
      const last = at + ((end - at) & ~7);
      chunk.fill(value ? 0xff : 0, at >> 3, last >> 3);
      at = last;
      continue;
    }
    const bit = 1 << (at & 7);
    const byte = chunk[at >> 3] ?? 0;
    chunk[at >> 3] = value ? byte | bit : byte & ~bit;
    at++;
  }
}
