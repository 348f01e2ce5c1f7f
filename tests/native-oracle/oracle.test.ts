import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { line } from "./describe.js";
import { NoOracle } from "./native.js";
import { Oracle } from "./oracle.js";

const SEED = 1;
const CASES = 50_000;
const CASES_32 = 20_000;

/** The oracle, or why there is none. */
function open(): Oracle | string {
  try {
    return new Oracle(join(import.meta.dirname, "../.."));
  } catch (error) {
    if (error instanceof NoOracle) return error.message;
    throw error;
  }
}

describe("the core against the real CPU", () => {
  const oracle = open();
  const absent = typeof oracle === "string" ? oracle : "";
  const noCompatibility =
    absent ||
    (typeof oracle !== "string" && !oracle.cpu.compatibility ? "the host lets no program run 32-bit code" : "");

  const compare = async (mode: 64 | 32, count: number): Promise<void> => {
    if (typeof oracle === "string") return;
    const { compared, differences } = await oracle.run({ seed: SEED, first: 0, count, mode, atMost: 20 });
    expect(differences.map((difference) => line(difference))).toEqual([]);
    expect(compared).toBeGreaterThan(count * 0.9);
  };

  it(`gives the same results in ${CASES} cases of 64-bit mode`, { timeout: 300_000 }, async (context) => {
    context.skip(absent !== "", absent);
    await compare(64, CASES);
  });

  it(`gives the same results in ${CASES_32} cases of compatibility mode`, { timeout: 300_000 }, async (context) => {
    context.skip(noCompatibility !== "", noCompatibility);
    await compare(32, CASES_32);
  });
});
