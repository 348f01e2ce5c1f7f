import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const LAUNCHER = join(import.meta.dirname, "../../bin/seamless.js");

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "seamless-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the command as a user would, in a folder of its own, with a cache of its own. */
function seamless(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [LAUNCHER, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", HOME: folder, XDG_CACHE_HOME: join(folder, "cache"), ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/** A message of the usual shape: what is wrong, then what to do, and no stack trace. */
function expectMessage(stderr: string, part: string): void {
  expect(stderr).toContain(part);
  expect(stderr).toMatch(/seamless: error: .+\n {2}\S/);
  expect(stderr).not.toMatch(/^\s+at .+:\d+/m);
}

describe("the command", () => {
  it("prints help and its version to stdout, with status 0", () => {
    expect(seamless(["--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage: seamless") });
    expect(seamless(["run", "--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("--inject") });
    expect(seamless(["--version"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });

  it("shows help on stderr, with status 2, when nothing is asked", () => {
    expect(seamless([])).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining("Usage: seamless") });
  });

  it.each<[string[], string]>([
    [["dance"], "unknown command 'dance'"],
    [["run"], "nothing to run"],
    [["run", "windows"], 'no guest named "windows"'],
    [["run", "debian", "--colour"], "unknown option '--colour'"],
    [["run", "debian", "again"], "too many arguments"],
    [["run", "debian", "--memory"], "argument missing"],
    [["run", "debian", "--memory", "64M"], "out of range"],
    [["run", "debian", "--vcpus", "0"], "--vcpus"],
    [["run", "debian", "--emca", "maybe"], "--emca"],
    [["run", "debian", "--timeout", "never"], "--timeout"],
    [["run", "debian", "--max-insns", "-5"], "--max-insns"],
    [["run", "debian", "--inject", "smi"], '"@"'],
    [["run", "debian", "--inject", "smi@insn=1,gpa=0"], 'no key "gpa"'],
    [["run", "--initrd", "x"], "--initrd is given without --kernel"],
    [["run", "debian", "--kernel", "x"], "both the guest debian and --kernel"],
    [["guests", "fetch", "plan9"], 'no Debian guest named "plan9"'],
    [["guests", "remove"], "needs a guest's name"],
  ])("refuses %j with status 2", (args, part) => {
    const { status, stdout, stderr } = seamless(args);
    expect(status).toBe(2);
    expect(stdout).toBe("");
    expectMessage(stderr, part);
  });

  it.each<[string, string, string]>([
    ["a file that is not there", "/nowhere/vmlinuz", "does not exist"],
    ["a folder", "/", "is a folder"],
  ])("says what is wrong with %s, with status 1", (_, kernel, part) => {
    const { status, stderr } = seamless(["run", "--kernel", kernel]);
    expect(status).toBe(1);
    expectMessage(stderr, part);
  });

  it("refuses a file that is no kernel, and writes the outcome of a run that could not start", () => {
    writeFileSync(join(folder, "text"), "not a kernel at all, ".repeat(100));
    const { status, stdout, stderr } = seamless(["run", "--kernel", "text", "--json", "-"]);
    expect(status).toBe(1);
    expectMessage(stderr, "text");
    const outcome = JSON.parse(stdout) as { outcome: string; error: { code: string; message: string; hint: string } };
    expect(outcome.outcome).toBe("error");
    expect(outcome.error.message).not.toBe("");
    expect(outcome.error.hint).not.toBe("");
  });

  it("leaves nothing half-written when the outcome cannot be written", () => {
    const { status, stderr } = seamless(["run", "--kernel", "/nowhere", "--json", "no/such/folder/out.json"]);
    expect(status).toBe(1);
    expectMessage(stderr, "no/such/folder/out.json");
    expect(readdirSync(folder).filter((name) => name.includes("tmp"))).toEqual([]);
  });

  it("says so when there is no package manager", () => {
    const { status, stderr } = seamless(["guests", "fetch"], { PATH: "/nowhere" });
    expect(status).toBe(1);
    expectMessage(stderr, "no apt-config");
    expect(readdirSync(join(folder, "cache/seamless/staging"))).toEqual([]);
  });

  it("says so when the machine has no Debian archive, and leaves its configuration alone", () => {
    const bin = join(folder, "bin");
    mkdirSync(bin);
    const sources = join(folder, "other.list");
    writeFileSync(sources, "deb http://archive.example/other noble main\n");
    const script = `#!/bin/sh\necho "list='${sources}'"\necho "parts='${folder}/none/'"\n`;
    writeFileSync(join(bin, "apt-config"), script, { mode: 0o755 });
    const { status, stderr } = seamless(["guests", "fetch"], { PATH: `${bin}:${process.env.PATH}` });
    expect(status).toBe(1);
    expectMessage(stderr, "no Debian archive among its sources");
    expect(readFileSync(sources, "utf8")).toContain("noble");
  });

  it("says so when the archive cannot be reached", (context) => {
    context.skip(spawnSync("apt-get", ["--version"]).status !== 0, "there is no apt-get");
    // Nobody listens on the discard port.
    const proxy = { http_proxy: "http://127.0.0.1:9", https_proxy: "http://127.0.0.1:9" };
    const { status, stderr } = seamless(["guests", "fetch"], proxy);
    expect(status).toBe(1);
    expectMessage(stderr, "seamless: error:");
    expect(readdirSync(join(folder, "cache/seamless/staging"))).toEqual([]);
    expect(existsSync(join(folder, "cache/seamless/guests"))).toBe(false);
  });

  it("lists guests without touching the cache", () => {
    const { status, stdout } = seamless(["guests", "list"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^debian:6\.12 +not fetched/m);
  });

  it("has no colour in a pipe", () => {
    expect(seamless(["run", "windows"]).stderr).not.toContain("\x1b[");
  });
});
