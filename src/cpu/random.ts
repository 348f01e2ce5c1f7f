import { LOCAL } from "./layout.js";
import type { CpuState } from "./state.js";

/** RDRAND and RDSEED: xorshift128+ on the state that the platform has seeded. */
export function nextRandom(state: CpuState): bigint {
  let a = state.get(LOCAL.RANDOM);
  const b = state.get(LOCAL.RANDOM + 8);
  state.set(LOCAL.RANDOM, b);
  a = BigInt.asUintN(64, a ^ (a << 23n));
  const next = a ^ b ^ (a >> 18n) ^ (b >> 5n);
  state.set(LOCAL.RANDOM + 8, next);
  return BigInt.asUintN(64, next + b);
}
