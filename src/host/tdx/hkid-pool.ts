/** Host KeyIDs for TDs, lowest first (tdx_guest_keyid_pool, an ida). */
export class HkidPool {
  readonly #used = new Set<number>();

  constructor(
    readonly first: number,
    readonly last: number,
  ) {}

  /** How many TDs can have one. */
  get capacity(): number {
    return this.last - this.first + 1;
  }

  /** A free KeyID, null if there is none. */
  allocate(): number | null {
    for (let hkid = this.first; hkid <= this.last; hkid++) {
      if (!this.#used.has(hkid)) {
        this.#used.add(hkid);
        return hkid;
      }
    }
    return null;
  }

  free(hkid: number): void {
    this.#used.delete(hkid);
  }

  get state(): readonly number[] {
    return [...this.#used];
  }
}
