import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const LAUNCHER = join(import.meta.dirname, "../../bin/seamless.js");

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "seamless-ends-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a small TD to its end; the outcome is read back from its file. */
function run(name: string, ...more: string[]) {
  const json = join(folder, "outcome.json");
  const args = [LAUNCHER, "run", name, "--json", json, ...more];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { input: "", encoding: "utf8" });
  const outcome = JSON.parse(readFileSync(json, "utf8")) as Record<string, unknown> & { instructions: number };
  return { status, stdout, stderr, outcome };
}

describe("ends of a run", () => {
  it("power-off: status 0, the console on stdout and nothing else there", () => {
    const { status, stdout, outcome } = run("hello");
    expect(status).toBe(0);
    expect(stdout).toBe("Hello from a trust domain.\n");
    expect(outcome).toMatchObject({ schema: 1, outcome: "power-off", error: null, kvmExit: null, signal: null });
  });

  it.each([
    ["triple-fault", "guest-fatal", "KVM_EXIT_SHUTDOWN"],
    ["fatal-error", "guest-fatal", "KVM_EXIT_SYSTEM_EVENT"],
  ])("%s: status 4", (name, expected, exit) => {
    const { status, stderr, outcome } = run(name);
    expect(status).toBe(4);
    expect(outcome).toMatchObject({ outcome: expected, kvmExit: { name: exit } });
    expect(stderr).toMatch(/RIP 0x[0-9a-f]+, CPL 0/);
  });

  it("reset: status 4", () => {
    expect(run("reset")).toMatchObject({ status: 4, outcome: { outcome: "reset" } });
  });

  it("a guest that nothing can wake: status 5", () => {
    const { status, outcome, stderr } = run("sleep");
    expect(status).toBe(5);
    expect(outcome.outcome).toBe("limit");
    expect(stderr).toContain("halted");
  });

  it("--max-insns: exactly that many, whatever the number", () => {
    for (const limit of [1, 777, 1_000_003]) {
      const { status, outcome } = run("compute", "--max-insns", String(limit));
      expect(status).toBe(5);
      expect(outcome.instructions).toBe(limit);
    }
  });

  it("--timeout: status 5, and where it spun", () => {
    const { status, stderr } = run("story", "--timeout", "0.05");
    expect(status).toBe(5);
    expect(stderr).toMatch(/--timeout 0.05 s is over; the guest was at RIP 0x[0-9a-f]+, CPL 0, last exit \w+/);
  });

  it("a memory error: status 3, one page poisoned and withheld", () => {
    const { status, outcome } = run("story", "--inject", 'memory-error@console="tour: going on"');
    expect(status).toBe(3);
    expect(outcome).toMatchObject({
      outcome: "td-fatal",
      kvmExit: { name: "KVM_EXIT_INTERNAL_ERROR", suberror: 4, data: ["0x6000000500000006", "0x0"] },
      machineChecks: 1,
      smm: { entries: 1 },
      injections: [{ event: "memory-error", fired: 1, taken: [{ vcpu: 0 }] }],
    });
    const { withheld, poisoned } = outcome.pages as { withheld: string[]; poisoned: string[] };
    expect(withheld).toHaveLength(1);
    expect(poisoned).toEqual(withheld);
  });

  it.each([
    ["1.0", "0x4000000500000006"],
    ["changelog", "0x4000000200000006"],
  ])("module profile %s ends with status %s", (profile, value) => {
    const strike = ["--inject", 'memory-error@console="tour: going on"'];
    const { outcome } = run("story", "--module-profile", profile, ...strike);
    expect(outcome).toMatchObject({ outcome: "td-fatal", kvmExit: { data: [value, "0x0"] } });
  });

  it("without eMCA the machine check is no SMI", () => {
    const { outcome } = run("story", "--emca", "off", "--inject", 'memory-error@console="tour: going on"');
    expect(outcome).toMatchObject({ outcome: "td-fatal", smm: { entries: 0 } });
  });

  it("an injection that never fires is a warning", () => {
    const { status, stderr, outcome } = run("hello", "--inject", "smi@insn=1_000_000_000");
    expect(status).toBe(0);
    expect(stderr).toContain("smi@insn=1_000_000_000 never fired");
    expect(outcome.injections).toMatchObject([{ fired: 0, taken: [] }]);
  });

  it("SMIs change nothing but the counts", () => {
    const undisturbed = run("compute", "--filter", "off");
    const struck = run("compute", "--filter", "off", "--inject", "smi@insn=1000..1500000/5000");
    expect(struck.stdout).toBe(undisturbed.stdout);
    expect(struck.outcome.instructions).toBe(undisturbed.outcome.instructions);
    expect(struck.outcome.smm).toEqual({ entries: 300 });
  });

  it("--json - is stdout, and the console then goes to stderr; --quiet leaves the rest out", () => {
    const args = [LAUNCHER, "run", "hello", "--json", "-", "--quiet"];
    const { stdout, stderr } = spawnSync(process.execPath, args, { input: "", encoding: "utf8" });
    expect(JSON.parse(stdout)).toMatchObject({ outcome: "power-off" });
    expect(stderr).toBe("Hello from a trust domain.\n");
  });

  it("the tour on a small TD tells every step and ends with status 0", () => {
    const args = [LAUNCHER, "tour", "--small"];
    const { status, stderr } = spawnSync(process.execPath, args, { input: "", encoding: "utf8" });
    expect(status).toBe(0);
    for (const step of ["smi-latched", "td-fatal", "machine-check", "page-poisoned", "page-withheld"]) {
      expect(stderr).toContain(step);
    }
    expect(stderr).toContain("The answer is right");
  });
});
