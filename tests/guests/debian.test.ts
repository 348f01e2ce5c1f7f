import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { APPEND, boots, QUICK_APPEND, type Ran, runSeamless, whyNoGuest } from "./support.js";

let reason: string | undefined;

beforeAll(async () => {
  reason = await whyNoGuest("debian");
}, 300_000);

/** Patterns of the list in docs/kernel-messages.md: what stands in backquotes at the start of a table row. */
function listedMessages(): RegExp[] {
  const text = readFileSync(join(import.meta.dirname, "../../docs/kernel-messages.md"), "utf8");
  const patterns = [...text.matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1] ?? "");
  const escaped = patterns.map((pattern) => pattern.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("…", ".*"));
  return escaped.map((pattern) => new RegExp(`^${pattern}$`));
}

describe("Debian's unmodified 6.12 kernel in a TD", () => {
  let ran: Ran;

  it(
    "boots to a shell, does what a pipe says, and powers off with status 0",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const input = [
        "grep -o -m1 tdx_guest /proc/cpuinfo | sed 's/^/flag: /'",
        "dmesg -r | sed 's/^/dmesg: /'",
        "poweroff -f",
        "",
      ].join("\n");
      ran = await runSeamless(["debian", "--append", APPEND], { input });
      expect(ran.status).toBe(0);
      expect(ran.outcome.outcome).toBe("power-off");
      expect(ran.console).toContain("seamless: user space is up");
      expect(ran.console).toContain("flag: tdx_guest");
    },
    boots(1),
  );

  it("knows that it is a TD", (context) => {
    context.skip(reason !== undefined, reason);
    expect(ran.console).toMatch(/Memory Encryption Features active: Intel TDX/);
  });

  it("logs nothing at level warn or worse but what docs/kernel-messages.md lists", (context) => {
    context.skip(reason !== undefined, reason);
    const listed = listedMessages();
    // dmesg -r prints <facility * 8 + level>[time] text; levels 0 to 4 are warn or worse.
    const lines = [...ran.console.matchAll(/dmesg: <(\d+)>\[ *[\d.]+\] (.*?)\r*\n/g)];
    expect(lines.length).toBeGreaterThan(100);
    const bad = lines.filter(([, priority]) => Number(priority) % 8 <= 4).map(([, , text]) => text ?? "");
    expect(bad.filter((text) => !listed.some((pattern) => pattern.test(text)))).toEqual([]);
  });

  it("gets all its pages back to the host", (context) => {
    context.skip(reason !== undefined, reason);
    const { pages } = ran.outcome;
    expect(pages.private).toBeGreaterThan(100_000);
    expect(pages).toMatchObject({ returned: pages.private, withheld: [], leaked: 0, poisoned: [] });
  });

  it(
    "is the same twice: console bytes, retired count and outcome",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const runs = [];
      for (let i = 0; i < 2; i++)
        runs.push(await runSeamless(["debian", "--append", QUICK_APPEND], { input: "uname -a\n" }));
      const [first, second] = runs.map(({ console, outcome }) => ({
        console,
        outcome: { ...outcome, seconds: 0, startupSeconds: 0, mips: 0 },
      }));
      expect(second).toEqual(first);
      expect(first?.outcome.outcome).toBe("power-off");
    },
    boots(2),
  );

  it(
    "ends at exactly --max-insns, and says where the guest was",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, outcome, stderr } = await runSeamless(["debian", "--max-insns", "123456789"]);
      expect(status).toBe(5);
      expect(outcome).toMatchObject({ outcome: "limit", instructions: 123456789 });
      expect(stderr).toMatch(/RIP 0x[0-9a-f]+, CPL \d/);
    },
    boots(1),
  );

  it.for([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)(
    "is stopped by %s with status %i and an outcome",
    { timeout: boots(1) },
    async ([signal, expected], context) => {
      context.skip(reason !== undefined, reason);
      const { status, outcome } = await runSeamless(["debian"], {
        onConsole: (text) => (text.length > 100 ? signal : undefined),
      });
      expect(status).toBe(expected);
      expect(outcome).toMatchObject({ outcome: "stopped", signal });
    },
  );

  it(
    "without KASLR too",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, console } = await runSeamless(["debian", "--append", `${QUICK_APPEND} nokaslr`]);
      expect(status).toBe(0);
      expect(console).toContain("seamless: user space is up");
    },
    boots(1),
  );

  it(
    "a panic ends in a reset, which a TD cannot have",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const input = "echo c > /proc/sysrq-trigger\n";
      const { status, outcome } = await runSeamless(["debian", "--append", QUICK_APPEND], { input });
      expect(status).toBe(4);
      expect(["reset", "guest-fatal"]).toContain(outcome.outcome);
    },
    boots(1),
  );
});

describe.each(["debian:6.18", "debian:7"])("%s", (name) => {
  it(
    "boots to a shell and powers off",
    async (context) => {
      const missing = await whyNoGuest(name);
      context.skip(missing !== undefined, missing);
      const { status, console, outcome } = await runSeamless([name, "--append", QUICK_APPEND], { input: "uname -r\n" });
      expect(status).toBe(0);
      expect(console).toContain("seamless: user space is up");
      expect(console).toMatch(name === "debian:7" ? /^7\./m : /^6\.18\./m);
      expect(outcome.outcome).toBe("power-off");
    },
    boots(2),
  );
});
