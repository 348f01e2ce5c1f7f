import { PAGE_META, RAM_BASE, RAM_MAX } from "../../cpu/layout.js";
import { type BulkMemory, bulkMemory } from "./bulk.js";
import { HostMemory } from "./host-memory.js";
import { LINE_SIZE, type LineState, OddPage, PAGE_SIZE, type PoisonCause } from "./lines.js";
import { SeamMemoryView } from "./seam-memory.js";
import { SmmMemory } from "./smm-memory.js";

/** Owner in PAGE_META of a page of SMRAM; the page is odd as well, so that nothing reaches it by a fast path. */
const SMRAM_OWNER = PAGE_META.KEY_ID_MASK;
const SMRAM_META = SMRAM_OWNER | PAGE_META.ODD;
const OWNED = PAGE_META.KEY_ID_MASK | PAGE_META.ODD;

/** Who makes an access: decides what becomes of poison that it consumes. */
export type Accessor = "host" | "seam";

/** What physical memory tells the rest of the platform. */
export interface MemoryHooks {
  /** Owner, KeyID or oddness of the page changed: cached translations of the page are stale, and so is decoded code. */
  ownerChanged(hpa: number): void;
  /** Host or module is about to write to a page with decoded code. */
  codeWritten(hpa: number): void;
  /** A partial store has just made poison of a foreign line, which nobody consumes: the memory controller's to log. */
  poisonMade(hpa: number, keyId: number, cause: PoisonCause): void;
  /** Host or module loads poison. Throws: the load does not complete. */
  poisonConsumed(hpa: number, keyId: number, cause: PoisonCause, accessor: Accessor): never;
}

/** Verdict on one access of a TD to a page that is odd or not owned as the access expects. */
export type GuestAccess =
  /** The bytes in memory are what the access works on. */
  | { readonly kind: "fine" }
  /** A load through the shared alias of TD-owned lines, or from SMRAM: what it reads is in `guestBytes`. */
  | { readonly kind: "zeros" }
  /** The load consumes poison: a machine check of the TD. */
  | { readonly kind: "poison-consumed"; readonly hpa: number; readonly keyId: number; readonly cause: PoisonCause };

const FINE: GuestAccess = { kind: "fine" };
const ZEROS: GuestAccess = { kind: "zeros" };

/** An address outside physical memory: no device answers there. */
export class PhysicalAddressError extends Error {
  override readonly name = "PhysicalAddressError";
  constructor(
    readonly hpa: number,
    readonly length: number,
  ) {
    super(`no memory at physical address 0x${hpa.toString(16)} (${length} bytes)`);
  }
}

export interface MemoryOptions {
  /** Bytes of host physical memory, a multiple of 4 KiB. */
  readonly size: number;
  /** Lowest private KeyID; lower ones are shared and act as the host. */
  readonly firstPrivateKeyId: number;
  /** A WebAssembly memory that workers can share. */
  readonly shared: boolean;
}

/**
 * Host physical memory. Every line has an owner (KeyID and TD-owner bit) and may hold poison; contents are stored in the
 * clear and what an accessor sees follows from the owner (smi-mca facts 4.1, tdx-module facts 10). Uniform pages have their
 * owner in PAGE_META; the lines of the others are in a sparse map.
 */
export class PhysicalMemory {
  readonly #bulk: BulkMemory;
  readonly wasm: WebAssembly.Memory;
  readonly size: number;
  readonly firstPrivateKeyId: number;
  /** Host physical memory, index = HPA. Raw: no ownership applies. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** PAGE_META of every page. */
  readonly meta: Uint32Array;
  readonly host: HostMemory;
  readonly seam: SeamMemoryView;
  readonly smm: SmmMemory;
  readonly #odd = new Map<number, OddPage>();
  readonly #hooks: MemoryHooks;

  constructor(options: MemoryOptions, hooks: MemoryHooks) {
    const { size } = options;
    if (size % PAGE_SIZE !== 0 || size <= 0 || size > RAM_MAX) {
      throw new RangeError(`host memory must be a multiple of 4 KiB and at most ${RAM_MAX} bytes, not ${size}`);
    }
    this.size = size;
    this.firstPrivateKeyId = options.firstPrivateKeyId;
    this.#hooks = hooks;
    const initial = Math.ceil((RAM_BASE + size) / 0x10000);
    this.wasm = new WebAssembly.Memory({ initial, maximum: 0x10000, shared: options.shared });
    this.#bulk = bulkMemory(this.wasm, options.shared);
    this.bytes = new Uint8Array(this.wasm.buffer, RAM_BASE, size);
    this.view = new DataView(this.wasm.buffer, RAM_BASE, size);
    this.meta = new Uint32Array(this.wasm.buffer, PAGE_META.BASE, size / PAGE_SIZE);
    this.meta.fill(PAGE_META.UNTOUCHED_ZERO);
    this.host = new HostMemory(this);
    this.seam = new SeamMemoryView(this);
    this.smm = new SmmMemory(this);
  }

  /** The owner that an access with this KeyID leaves on a line: shared KeyIDs leave none. */
  ownerOf(keyId: number): number {
    return keyId >= this.firstPrivateKeyId ? keyId : 0;
  }

  /** Owner and poison of the line of this address. */
  lineState(hpa: number): LineState {
    this.check(hpa, 1);
    if (this.isSmram(hpa >>> 12)) return { keyId: 0, owner: false, poison: null };
    const odd = this.#odd.get(hpa >>> 12);
    const line = lineOf(hpa);
    const keyId = odd ? (odd.owners[line] as number) : (this.meta[hpa >>> 12] as number) & PAGE_META.KEY_ID_MASK;
    return { keyId, owner: keyId !== 0, poison: odd ? odd.poison(line) : null };
  }

  /** Plants poison in the line of this address, as an uncorrectable memory error does. */
  poisonLine(hpa: number, cause: PoisonCause = "integrity"): void {
    this.check(hpa, 1);
    if (this.isSmram(hpa >>> 12)) return;
    this.#oddPage(hpa >>> 12).setPoison(lineOf(hpa), cause);
  }

  /** Addresses of all poisoned lines, in order. */
  poisonedLines(): number[] {
    const lines: number[] = [];
    for (const [page, odd] of this.#odd) {
      for (let line = 0; line < 64; line++) if (odd.poison(line)) lines.push(page * PAGE_SIZE + line * LINE_SIZE);
    }
    return lines.sort((a, b) => a - b);
  }

  /** Gives a range of whole pages to SMM: everybody else reads all-ones there, and writes are lost (SMRR). */
  reserveSmram(base: number, size: number): void {
    this.check(base, size);
    this.meta.fill(SMRAM_META, base >>> 12, (base + size) >>> 12);
  }

  isSmram(page: number): boolean {
    return ((this.meta[page] as number) & OWNED) === SMRAM_META;
  }

  /**
   * Makes one access of a TD, within one page, as far as owner and poison go: loads check (and a mismatch makes poison), stores
   * claim the lines that they touch. `keyId` is that of the mapping: the TD's for private memory, 0 for shared. On "fine" the core
   * goes on to the bytes themselves.
   */
  guestLineAccess(hpa: number, length: number, write: boolean, keyId: number): GuestAccess {
    this.check(hpa, length);
    const page = hpa >>> 12;
    if (this.isSmram(page)) return ZEROS;
    const owner = this.ownerOf(keyId);
    if (write) {
      this.claim(hpa, length, owner);
      return FINE;
    }
    if (((this.meta[page] as number) & OWNED) === owner) return FINE;
    const end = hpa + length;
    let zeros = false;
    for (let at = hpa; at < end; at = nextLine(at)) {
      const seen = this.#load(at, owner);
      if (seen === "zeros") zeros = true;
      else if (seen !== "data") return { kind: "poison-consumed", hpa: at - (at % LINE_SIZE), keyId, cause: seen };
    }
    return zeros ? ZEROS : FINE;
  }

  /** The bytes that a load of a TD reads after the verdict "zeros". */
  guestBytes(hpa: number, length: number, keyId: number): Uint8Array {
    return this.load(hpa, length, keyId, "seam");
  }

  /** What a load by `owner` sees of one line; a private load of a foreign line makes poison. */
  #load(hpa: number, owner: number): "data" | "zeros" | PoisonCause {
    const page = hpa >>> 12;
    const line = lineOf(hpa);
    const odd = this.#odd.get(page);
    const lineOwner = odd ? (odd.owners[line] as number) : (this.meta[page] as number) & PAGE_META.KEY_ID_MASK;
    const poison = odd?.poison(line) ?? null;
    if (poison) return poison;
    if (lineOwner === owner) return "data";
    if (owner === 0) return "zeros";
    const cause = lineOwner === 0 ? "owner" : "integrity";
    this.#oddPage(page).setPoison(line, cause);
    return cause;
  }

  /**
   * Gives the lines of a range within one page to `owner`, as a store of these bytes does. A line that is covered whole is made
   * anew. A partial store first reads the line as its maker sees it: the host reads zeros from a TD's line, a TD or the module
   * makes poison of a foreign one.
   */
  claim(hpa: number, length: number, owner: number): void {
    const page = hpa >>> 12;
    const meta = this.meta[page] as number;
    if ((meta & OWNED) === owner) {
      if (meta & (PAGE_META.UNTOUCHED_ZERO | PAGE_META.CODE)) this.#touched(page);
      return;
    }
    if (length === PAGE_SIZE) {
      this.setUniform(page, owner);
      this.#touched(page);
      return;
    }
    const odd = this.#oddPage(page);
    const end = hpa + length;
    for (let at = hpa; at < end; at = nextLine(at)) {
      const line = lineOf(at);
      const start = at - (at % LINE_SIZE);
      if (start >= hpa && start + LINE_SIZE <= end) odd.setPoison(line, null);
      else if (odd.owners[line] !== owner) {
        if (owner === 0) this.bytes.fill(0, start, start + LINE_SIZE);
        else if (odd.poison(line) === null) {
          const cause = odd.owners[line] === 0 ? "owner" : "integrity";
          odd.setPoison(line, cause);
          this.#hooks.poisonMade(start, owner, cause);
        }
      }
      odd.owners[line] = owner;
    }
    this.#touched(page);
    const uniform = odd.uniformOwner();
    if (uniform >= 0) this.setUniform(page, uniform);
  }

  /** Makes all lines of a page clean and owned by `owner`. */
  setUniform(page: number, owner: number): void {
    const meta = this.meta[page] as number;
    if ((meta & OWNED) === owner) return;
    if (meta & PAGE_META.ODD) this.#odd.delete(page);
    this.meta[page] = (meta & ~OWNED) | owner;
    this.#hooks.ownerChanged(page * PAGE_SIZE);
  }

  /** Bytes of the page are about to change under the eyes of the core. */
  #touched(page: number): void {
    const meta = this.meta[page] as number;
    if (meta & PAGE_META.UNTOUCHED_ZERO) this.meta[page] = meta & ~PAGE_META.UNTOUCHED_ZERO;
    if (meta & PAGE_META.CODE) this.#hooks.codeWritten(page * PAGE_SIZE);
  }

  #oddPage(page: number): OddPage {
    let odd = this.#odd.get(page);
    if (!odd) {
      const meta = this.meta[page] as number;
      odd = new OddPage(meta & PAGE_META.KEY_ID_MASK);
      this.#odd.set(page, odd);
      this.meta[page] = meta | PAGE_META.ODD;
      this.#hooks.ownerChanged(page * PAGE_SIZE);
    }
    return odd;
  }

  /** Loads a range through the eyes of `keyId`; poison goes to the hook, which throws. */
  load(hpa: number, length: number, keyId: number, accessor: Accessor): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(length);
    this.loadInto(out, hpa, keyId, accessor);
    return out;
  }

  /** The same into bytes that are there already. */
  loadInto(out: Uint8Array, hpa: number, keyId: number, accessor: Accessor): void {
    this.check(hpa, out.length);
    const owner = this.ownerOf(keyId);
    const end = hpa + out.length;
    for (let at = hpa; at < end; ) {
      const page = at >>> 12;
      const stop = Math.min(end, (page + 1) * PAGE_SIZE);
      if (((this.meta[page] as number) & OWNED) === owner) out.set(this.bytes.subarray(at, stop), at - hpa);
      else if (this.isSmram(page)) out.fill(0xff, at - hpa, stop - hpa);
      else this.#loadLines(out, hpa, at, stop, owner, keyId, accessor);
      at = stop;
    }
  }

  #loadLines(
    out: Uint8Array,
    base: number,
    from: number,
    to: number,
    owner: number,
    keyId: number,
    accessor: Accessor,
  ): void {
    for (let at = from; at < to; ) {
      const stop = Math.min(to, nextLine(at));
      const seen = this.#load(at, owner);
      if (seen === "data") out.set(this.bytes.subarray(at, stop), at - base);
      else if (seen !== "zeros") this.#hooks.poisonConsumed(at - (at % LINE_SIZE), keyId, seen, accessor);
      at = stop;
    }
  }

  /** Stores a range with `keyId`. Stores are never checked and never fault. */
  store(hpa: number, bytes: Uint8Array, keyId: number): void {
    this.check(hpa, bytes.length);
    const owner = this.ownerOf(keyId);
    const end = hpa + bytes.length;
    for (let at = hpa; at < end; ) {
      const page = at >>> 12;
      const stop = Math.min(end, (page + 1) * PAGE_SIZE);
      if (!this.isSmram(page)) {
        this.claim(at, stop - at, owner);
        this.bytes.set(bytes.subarray(at - hpa, stop - hpa), at);
      }
      at = stop;
    }
  }

  /** Fills whole lines as MOVDIR64B does. Zero over a page that was never written touches no byte of it. */
  fill(hpa: number, length: number, value: number, keyId: number): void {
    this.checkLines(hpa, length);
    const owner = this.ownerOf(keyId);
    const end = hpa + length;
    for (let at = hpa; at < end; ) {
      const page = at >>> 12;
      const stop = Math.min(end, (page + 1) * PAGE_SIZE);
      const meta = this.meta[page] as number;
      if (!this.isSmram(page)) {
        const untouched = (meta & PAGE_META.UNTOUCHED_ZERO) !== 0 && (value & 0xff) === 0;
        if (untouched && stop - at === PAGE_SIZE) this.setUniform(page, owner);
        else {
          this.claim(at, stop - at, owner);
          this.#bulk.fill(RAM_BASE + at, value, stop - at);
        }
      }
      at = stop;
    }
  }

  /** Copies whole lines: a load with one KeyID, a MOVDIR64B with another. */
  copy(from: number, fromKeyId: number, to: number, toKeyId: number, length: number, accessor: Accessor): void {
    this.checkLines(from, length);
    this.checkLines(to, length);
    const owner = this.ownerOf(fromKeyId);
    for (let done = 0; done < length; ) {
      const source = from + done;
      const target = to + done;
      const step = Math.min(length - done, PAGE_SIZE - (source % PAGE_SIZE), PAGE_SIZE - (target % PAGE_SIZE));
      const meta = this.meta[source >>> 12] as number;
      if ((meta & OWNED) !== owner || this.isSmram(target >>> 12)) {
        this.store(target, this.load(source, step, fromKeyId, accessor), toKeyId);
      } else if (meta & PAGE_META.UNTOUCHED_ZERO) this.fill(target, step, 0, toKeyId);
      else {
        this.claim(target, step, this.ownerOf(toKeyId));
        this.#bulk.copy(RAM_BASE + target, RAM_BASE + source, step);
      }
      done += step;
    }
  }

  check(hpa: number, length: number): void {
    if (!(hpa >= 0 && hpa + length <= this.size)) throw new PhysicalAddressError(hpa, length);
  }

  checkLines(hpa: number, length: number): void {
    this.check(hpa, length);
    if (hpa % LINE_SIZE !== 0 || length % LINE_SIZE !== 0) {
      throw new RangeError(`not whole lines: 0x${hpa.toString(16)}, ${length} bytes`);
    }
  }
}

const lineOf = (hpa: number): number => (hpa & 0xfff) >>> 6;
const nextLine = (hpa: number): number => hpa - (hpa % LINE_SIZE) + LINE_SIZE;
