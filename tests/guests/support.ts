import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../../src/cli/errors.js";
import { GuestCache } from "../../src/cli/guests/cache.js";
import { requireFamily } from "../../src/cli/guests/catalogue.js";
import { obtainGuest } from "../../src/cli/guests/fetch.js";

const LAUNCHER = join(import.meta.dirname, "../../bin/seamless.js");

/** Command line of the promised runs. */
export const APPEND = "console=ttyS0 panic=-1";

/** Without the kernel's crypto self-tests: half the instructions. */
export const QUICK_APPEND = `${APPEND} cryptomgr.notests`;

/** Why a Debian guest cannot be had on this machine, or undefined when it is in the cache (fetched if need be). */
export async function whyNoGuest(name: string): Promise<string | undefined> {
  try {
    await obtainGuest(new GuestCache(), requireFamily(name), () => {});
    return undefined;
  } catch (error) {
    if (error instanceof UserError) return `no guest ${name}: ${error.message}`;
    throw error;
  }
}

/** The outcome document, as far as tests look into it. */
export interface OutcomeJson {
  readonly outcome: string;
  readonly error: { readonly code: string } | null;
  readonly guest: { readonly name: string | null };
  readonly kvmExit: { readonly name: string; readonly reason: number; suberror?: number; data?: string[] } | null;
  readonly instructions: number;
  readonly clock: number;
  readonly seconds: number;
  readonly exits: Readonly<Record<string, number>>;
  readonly smm: { readonly entries: number };
  readonly machineChecks: number;
  readonly pages: {
    readonly private: number;
    readonly returned: number;
    readonly withheld: readonly string[];
    readonly leaked: number;
    readonly poisoned: readonly string[];
  };
  readonly injections: readonly {
    readonly event: string;
    readonly fired: number;
    readonly taken: readonly { retired: number; vcpu: number | null; gpa: string | null; hpa: string | null }[];
  }[];
  readonly vcpus: readonly { readonly state: string; readonly retired: number; readonly rip: string }[];
}

export interface Ran {
  readonly status: number | null;
  readonly console: string;
  readonly stderr: string;
  readonly outcome: OutcomeJson;
}

export interface RunOptions {
  /** What standard input holds. */
  readonly input?: string;
  /** Called with the console so far; may end the run by the signal that it returns. */
  readonly onConsole?: (text: string) => NodeJS.Signals | undefined;
}

/** `seamless run …` in a process of its own. */
export async function runSeamless(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const folder = mkdtempSync(join(tmpdir(), "seamless-run-"));
  const json = join(folder, "outcome.json");
  try {
    const child = spawn(process.execPath, [LAUNCHER, "run", ...args, "--json", json, "--timeout", "170"]);
    let console = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      console += chunk.toString("latin1");
      const signal = options.onConsole?.(console);
      if (signal !== undefined) child.kill(signal);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdin.end(options.input ?? "");
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    return { status, console, stderr, outcome: readOutcome(json, stderr) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readOutcome(path: string, stderr: string): OutcomeJson {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as OutcomeJson;
  } catch {
    throw new Error(`the run left no outcome; it said:\n${stderr}`);
  }
}

/** A time limit for a test with this many boots. */
export function boots(count: number): number {
  return count * 180_000;
}

/** Kernel log lines without their times, as a set. */
export function logLines(console: string): Set<string> {
  const lines = console.split(/\r*\n/).map((line) => line.replace(/^\[ *\d+\.\d+\] /, ""));
  return new Set(lines.filter((line) => line !== ""));
}
