import { beforeAll, describe, expect, it } from "vitest";
import { boots, logLines, QUICK_APPEND, type Ran, runSeamless, whyNoGuest } from "./support.js";

const SMIS = 1000;
/** From the decompressor to user space. */
const RANGE = `insn=1000000..${1_000_000 + (SMIS - 1) * 1_400_000}/1400000`;
const INPUT = "seq 1 20000 | sha256sum\n";
/** The sha256 of the numbers from 1 to 20000, a line each. */
const CHECKSUM = /^[0-9a-f]{64} {2}-\r*$/m;

let reason: string | undefined;

beforeAll(async () => {
  reason = await whyNoGuest("debian");
}, 300_000);

function run(filter: "on" | "off", ...more: string[]): Promise<Ran> {
  return runSeamless(["debian", "--append", QUICK_APPEND, "--filter", filter, ...more], { input: INPUT });
}

describe("plain SMIs while Debian boots and computes", () => {
  let undisturbed: Ran;

  it(
    "change nothing at all with the filter off: the same console bytes",
    async (context) => {
      context.skip(reason !== undefined, reason);
      undisturbed = await run("off");
      expect(undisturbed.status).toBe(0);
      expect(undisturbed.outcome.smm.entries).toBe(0);
      const struck = await run("off", "--inject", `smi@${RANGE}`);
      expect(struck.outcome.injections[0]?.fired).toBe(SMIS);
      expect(struck.outcome.smm.entries).toBe(SMIS);
      expect(struck.outcome.exits.OTHER_SMI).toBeGreaterThan(SMIS * 0.9);
      expect(struck.console).toBe(undisturbed.console);
      expect(struck.outcome.instructions).toBe(undisturbed.outcome.instructions);
    },
    boots(2),
  );

  it(
    "change no result and no log line with the filter on",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const struck = await run("on", "--inject", `smi@${RANGE}`);
      expect(struck.status).toBe(0);
      expect(struck.outcome.smm.entries).toBe(SMIS);
      expect(CHECKSUM.exec(struck.console)?.[0]).toBe(CHECKSUM.exec(undisturbed.console)?.[0]);
      expect(logLines(struck.console)).toEqual(logLines(undisturbed.console));
    },
    boots(1),
  );
});
