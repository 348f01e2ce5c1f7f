import { describe, expect, it } from "vitest";
import { GuestCache } from "../../src/cli/guests/cache.js";
import { encodeAnything, encodeRow } from "../native-oracle/encode.js";
import { Random } from "../native-oracle/random.js";
import { allRows } from "../native-oracle/rows.js";
import { Agreement } from "./agreement.js";
import { kernelText } from "./kernel-text.js";

const SEED = 1;
const FORMS = 60_000;
const RANDOM = 20_000;
const SLOT = 32;
const INT3 = 0xcc;
/** Of each page of the kernel's text so many bytes are decoded. */
const PAGE = 4096;
const SAMPLE = 256;
const ADDRESS = 0x2000_0000n;
const SHOWN = 30;

/** Instructions in slots of their own. */
function slots(count: number, make: (random: Random, index: number) => readonly number[]): Uint8Array {
  const code = new Uint8Array(count * SLOT + SLOT).fill(INT3);
  for (let n = 0; n < count; n++) code.set(make(new Random(SEED, n), n), n * SLOT);
  return code;
}

function compareSlots(code: Uint8Array, mode: 64 | 32): { differences: string[]; operandsCompared: number } {
  const agreement = new Agreement(code, mode, ADDRESS);
  const differences: string[] = [];
  for (let at = 0; at + SLOT < code.length && differences.length < SHOWN; at += SLOT) {
    const { difference } = agreement.at(at);
    if (difference !== null) differences.push(difference);
  }
  agreement.free();
  return { differences, operandsCompared: agreement.operandsCompared };
}

describe.each([64, 32] as const)("our decoder and iced-x86 in %i-bit mode", (mode) => {
  it(`agree on ${FORMS} encodings of the instruction table`, { timeout: 120_000 }, () => {
    const rows = allRows(mode);
    const code = slots(
      FORMS,
      (random, n) => encodeRow(rows[n % rows.length] as (typeof rows)[number], random, mode).bytes,
    );
    const { differences, operandsCompared } = compareSlots(code, mode);
    expect(differences).toEqual([]);
    expect(operandsCompared).toBeGreaterThan(FORMS / 2);
  });

  it(`agree on ${RANDOM} times any bytes`, { timeout: 120_000 }, () => {
    const code = slots(RANDOM, (random) => encodeAnything(random, mode).bytes);
    expect(compareSlots(code, mode).differences).toEqual([]);
  });
});

describe("our decoder and iced-x86 over a real kernel", () => {
  it("agree on its text", { timeout: 300_000 }, async (context) => {
    const guest = await new GuestCache().read("debian:6.12");
    context.skip(guest === undefined, "no Debian kernel is cached: npx seamless guests fetch");
    const text = kernelText(guest?.kernel ?? new Uint8Array());
    context.skip(typeof text === "string", typeof text === "string" ? text : "");
    if (typeof text === "string") return;
    const agreement = new Agreement(text.bytes, 64, text.address);
    const differences: string[] = [];
    let instructions = 0;
    for (let page = 0; page + PAGE <= text.bytes.length; page += PAGE) {
      for (let at = page; at < page + SAMPLE; instructions++) {
        const { next, difference } = agreement.at(at);
        if (difference !== null && differences.length < SHOWN) differences.push(difference);
        at = next;
      }
    }
    agreement.free();
    expect(differences).toEqual([]);
    expect(instructions).toBeGreaterThan(100_000);
  });
});
