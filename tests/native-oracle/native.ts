import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ARENA, CASE, CODE_FILLER, FX, FX_BYTES, RESULT, SELECTOR } from "./arena.js";

/** Why the real CPU cannot be asked on this machine. */
export class NoOracle extends Error {}

/** The numbers of arena.ts as definitions for the compiler. */
function definitions(): string[] {
  const named: Record<string, number> = { CODE_FILLER, FX_BYTES, CODE64: SELECTOR.CODE64, CODE32: SELECTOR.CODE32 };
  named.SELECTOR_DATA = SELECTOR.DATA;
  for (const [name, value] of Object.entries(ARENA)) named[name] = value;
  for (const [name, value] of Object.entries(CASE)) named[`CASE_${name}`] = value;
  for (const [name, value] of Object.entries(RESULT)) named[`RESULT_${name}`] = value;
  for (const [name, value] of Object.entries(FX)) named[`FX_${name}`] = value;
  return Object.entries(named).map(([name, value]) => `-D${name}=${value}`);
}

/** Compiles the native program unless it has been; returns its path. */
export function compileRunner(root: string): string {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new NoOracle(`needs Linux on x86-64, this is ${process.platform} on ${process.arch}`);
  }
  const source = join(root, "tests/native-oracle/runner.c");
  const options = ["-O2", "-fno-stack-protector", "-mno-80387", "-Wall", "-Wextra", "-Wl,-z,now", ...definitions()];
  const digest = createHash("sha256").update(readFileSync(source)).update(options.join(" ")).digest("hex").slice(0, 16);
  const folder = join(root, "node_modules/.cache/native-oracle");
  const program = join(folder, `runner-${digest}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  const made = `${program}.${process.pid}`;
  const { status, error, stderr } = spawnSync("gcc", [...options, "-o", made, source], { encoding: "utf8" });
  if (error) throw new NoOracle("needs gcc");
  if (status !== 0) {
    rmSync(made, { force: true });
    throw new Error(`gcc: ${stderr}`);
  }
  renameSync(made, program);
  return program;
}

/** What CPUID of the real CPU says. */
export interface NativeCpu {
  readonly vendor: string;
  /** The kernel lets a program run in compatibility mode. */
  readonly compatibility: boolean;
  /** Register contents by `leaf.subleaf.register`, all in hexadecimal, register one of a b c d. */
  readonly words: ReadonlyMap<string, number>;
}

export function identify(program: string): NativeCpu {
  const words = new Map<string, number>();
  let compatibility = false;
  for (const line of spawnSync(program, ["--cpuid"], { encoding: "utf8" }).stdout.trim().split("\n")) {
    if (line.startsWith("code32")) {
      compatibility = line !== "code32 0";
      continue;
    }
    const [leaf, subleaf, ...values] = line.split(" ") as [string, string, ...string[]];
    values.forEach((value, n) => {
      words.set(`${leaf}.${subleaf}.${"abcd"[n]}`, Number.parseInt(value, 16));
    });
  }
  const bytes = Buffer.alloc(12);
  ["b", "d", "c"].forEach((register, n) => {
    bytes.writeUInt32LE(words.get(`0.0.${register}`) ?? 0, n * 4);
  });
  return { vendor: bytes.toString("latin1"), compatibility, words };
}

/** The native program at work. */
export class NativeRunner {
  readonly #child: ChildProcess;
  readonly #received: Buffer[] = [];
  #bytes = 0;
  #wanted = 0;
  #waiting: { resolve: (result: Buffer) => void; reject: (error: Error) => void } | undefined;

  /** @param data contents of the data pages, then of the read-only page, before every case. */
  constructor(program: string, data: Uint8Array) {
    const child = spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
    this.#child = child;
    child.stdout?.on("data", (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#bytes += chunk.length;
      this.#settle();
    });
    child.on("close", (code, signal) => {
      this.#waiting?.reject(new Error(`the native program ended: ${signal ?? `status ${code}`}`));
      this.#waiting = undefined;
    });
    child.stdin?.on("error", () => {});
    child.stdin?.write(data);
  }

  #settle(): void {
    if (!this.#waiting || this.#bytes < this.#wanted) return;
    const all = Buffer.concat(this.#received);
    this.#received.length = 0;
    this.#bytes = 0;
    this.#waiting.resolve(all);
    this.#waiting = undefined;
  }

  /** Runs a batch; one at a time. */
  run(cases: Uint8Array, count: number): Promise<Buffer> {
    this.#wanted = count * RESULT.SIZE;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      const header = Buffer.alloc(4);
      header.writeUInt32LE(count);
      this.#child.stdin?.write(header);
      this.#child.stdin?.write(cases.subarray(0, count * CASE.SIZE));
    });
  }

  close(): void {
    this.#child.stdin?.end();
  }
}
