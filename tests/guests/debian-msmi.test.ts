import { beforeAll, describe, expect, it } from "vitest";
import { boots, QUICK_APPEND, runSeamless, whyNoGuest } from "./support.js";

let reason: string | undefined;

beforeAll(async () => {
  reason = await whyNoGuest("debian");
}, 300_000);

const STRIKE = ["--inject", 'memory-error@console="user space is up"'];

function struck(...more: string[]) {
  return runSeamless(["debian", "--append", QUICK_APPEND, ...STRIKE, ...more]);
}

function pageOf(address: string | null | undefined): number {
  return Math.floor(Number(address) / 4096) * 4096;
}

describe("an uncorrectable error in a line that Debian uses", () => {
  it(
    "ends the TD, poisons one page and withholds it; all others return",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, outcome, stderr } = await struck();
      expect(status).toBe(3);
      expect(outcome).toMatchObject({
        outcome: "td-fatal",
        kvmExit: {
          name: "KVM_EXIT_INTERNAL_ERROR",
          reason: 17,
          suberror: 4,
          data: ["0x6000000500000006", "0x0"],
        },
        smm: { entries: 1 },
        machineChecks: 1,
        exits: { OTHER_SMI: 1 },
      });
      const { pages, injections } = outcome;
      expect(pages.withheld).toHaveLength(1);
      expect(pages.poisoned).toEqual(pages.withheld);
      expect(pages.leaked).toBe(0);
      expect(pages.returned).toBe(pages.private - 1);
      const taken = injections[0]?.taken[0];
      expect(pageOf(taken?.hpa)).toBe(Number(pages.withheld[0]));
      expect(taken?.retired).toBeLessThanOrEqual(outcome.instructions);
      expect(stderr).toMatch(/RIP 0x[0-9a-f]+/);
    },
    boots(1),
  );

  it(
    "on Linux 6.16 loses the mark and leaks every page",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, outcome } = await struck("--host-profile", "linux-6.16");
      expect(status).toBe(3);
      expect(outcome.pages.poisoned).toEqual([]);
      expect(outcome.pages.leaked).toBe(outcome.pages.private);
    },
    boots(1),
  );
});
