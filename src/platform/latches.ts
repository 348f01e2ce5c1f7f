import { EVENT_ORDER, type EventKind } from "./modes.js";

/**
 * Events that wait at a logical processor. Each kind is latched once; further ones of the kind merge. SMI and MSMI share a
 * latch, and one MSMI among them marks it.
 */
export class EventLatches {
  readonly #pending = new Set<Exclude<EventKind, "intr">>();
  /** The latched SMI is (also) a machine-check SMI: exit qualification bit 0. */
  msmi = false;
  /** SMIs that met a latch already set. */
  merged = 0;
  /** Vectors that wait in the local APIC, as its IRR: 256 bits. */
  readonly #irr = new Uint32Array(8);

  /** Latches an event. False if it merges with one that waits already and tells nothing new. */
  raise(event: "smi" | "msmi" | "nmi" | "init" | "mc"): boolean {
    const kind = event === "msmi" ? "smi" : event;
    const waited = this.#pending.has(kind);
    if (kind === "smi" && waited) this.merged++;
    this.#pending.add(kind);
    if (event !== "msmi") return !waited;
    const marked = this.msmi;
    this.msmi = true;
    return !marked;
  }

  raiseInterrupt(vector: number): void {
    this.#irr[vector >>> 5] = (this.#irr[vector >>> 5] as number) | (1 << (vector & 31));
  }

  has(kind: EventKind): boolean {
    return kind === "intr" ? this.highestVector() >= 0 : this.#pending.has(kind);
  }

  /** Takes an event off. */
  clear(kind: Exclude<EventKind, "intr">): void {
    this.#pending.delete(kind);
    if (kind === "smi") this.msmi = false;
  }

  /** Highest pending vector, -1 if none. */
  highestVector(): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#irr[word] as number;
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  /** Acknowledges the highest pending vector: the local APIC gives it up. */
  acknowledge(): number {
    const vector = this.highestVector();
    if (vector >= 0) {
      this.#irr[vector >>> 5] = (this.#irr[vector >>> 5] as number) & ~(1 << (vector & 31));
    }
    return vector;
  }

  /** Pending kinds, most urgent first. */
  pending(): EventKind[] {
    return EVENT_ORDER.filter((kind) => this.has(kind));
  }

  /** True if nothing waits. */
  get empty(): boolean {
    return this.#pending.size === 0 && this.highestVector() < 0;
  }
}
