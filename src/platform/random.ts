const MASK = 0xffff_ffff_ffff_ffffn;

/**
 * Deterministic random numbers from a seed (SplitMix64: a counter that steps by the golden ratio, mixed). Streams of
 * different names are independent, so that a draw in one never moves another.
 */
export class RandomStream {
  #state: bigint;

  constructor(seed: bigint, name: string) {
    let state = seed & MASK;
    for (const character of name) state = mix(state ^ BigInt(character.codePointAt(0) as number));
    this.#state = state;
  }

  /** The next 64 random bits. */
  next64(): bigint {
    this.#state = (this.#state + 0x9e37_79b9_7f4a_7c15n) & MASK;
    return mix(this.#state);
  }

  get state(): bigint {
    return this.#state;
  }
  set state(value: bigint) {
    this.#state = value & MASK;
  }
}

function mix(value: bigint): bigint {
  let z = (value + 0x9e37_79b9_7f4a_7c15n) & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK;
  return z ^ (z >> 31n);
}
