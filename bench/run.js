// `npm run bench`: boots Debian's kernel on this machine and, interleaved with it, under QEMU's TCG: same kernel, initramfs,
// memory and command line, from the start of the process to the line that /init prints; and times pages by small TDs of our own.
// Prints medians.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { prepare, root } from "../bin/prepare.js";

const MEMORY_MIB = 512;
const ROUNDS = Number(process.argv[2] ?? 3);
const QEMU = "qemu-system-x86_64";
const LIMIT_SECONDS = 60;

prepare();
const { GuestCache } = await import(join(root, "dist/cli/guests/cache.js"));
const { requireFamily } = await import(join(root, "dist/cli/guests/catalogue.js"));
const { obtainGuest } = await import(join(root, "dist/cli/guests/fetch.js"));
const { timePages } = await import("./pages.js");
const { DEFAULT_APPEND: APPEND } = await import(join(root, "dist/cli/run-request.js"));
const { makeInitramfs, USER_SPACE_LINE } = await import(join(root, "dist/cli/guests/initramfs.js"));

const folder = mkdtempSync(join(tmpdir(), "seamless-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const guest = await obtainGuest(new GuestCache(), requireFamily("debian"), (line) => console.error(line));
const initrd = join(folder, "initramfs");
writeFileSync(initrd, makeInitramfs({ busybox: guest.busybox }));

/** Largest resident set so far of a process, in MiB; undefined where the system does not say. */
function residentMib(pid) {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
  } catch {
    return undefined;
  }
}

/** Runs a program until its output has the line, then ends it. Seconds and MiB, or how it ended without the line. */
function timeToLine(program, args) {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors = (errors + chunk.toString()).slice(-2000);
    });
    let result;
    const limit = setTimeout(() => child.kill("SIGTERM"), LIMIT_SECONDS * 1000);
    child.stdout.on("data", (chunk) => {
      output = (output + chunk.toString("latin1")).slice(-2000);
      if (result !== undefined || !output.includes(USER_SPACE_LINE)) return;
      result = { seconds: (performance.now() - start) / 1000, mib: residentMib(child.pid) };
      child.kill("SIGTERM");
    });
    child.on("error", reject);
    child.on("close", (status, signal) => {
      clearTimeout(limit);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      resolve(result ?? { failure: `it ended after ${seconds} s with ${signal ?? status}: ${errors.trim()}` });
    });
  });
}

async function seamless() {
  const json = join(folder, "outcome.json");
  const files = ["--kernel", guest.kernelPath, "--initrd", initrd];
  const args = ["run", ...files, "--append", APPEND, "--memory", `${MEMORY_MIB}M`, "--json", json, "--quiet"];
  const timed = await timeToLine(process.execPath, [join(root, "bin/seamless.js"), ...args]);
  if (timed.failure !== undefined) return timed;
  const { mips, startupSeconds, instructions } = JSON.parse(readFileSync(json, "utf8"));
  return { ...timed, mips, startupSeconds, instructions };
}

function qemu() {
  const machine = ["-machine", "q35", "-accel", "tcg", "-m", `${MEMORY_MIB}M`, "-smp", "1", "-no-reboot"];
  const devices = ["-nodefaults", "-display", "none", "-serial", "stdio"];
  const boot = ["-kernel", guest.kernelPath, "-initrd", initrd, "-append", APPEND];
  return timeToLine(QEMU, [...machine, ...devices, ...boot]);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const hasQemu = spawnSync(QEMU, ["--version"]).status === 0;
const ours = [];
const theirs = [];
const pages = [];
let thrownAway = 0;
for (let round = 1; round <= ROUNDS; round++) {
  console.error(`round ${round} of ${ROUNDS}`);
  const run = await seamless();
  if (run.failure !== undefined) {
    console.error(`seamless did not reach user space: ${run.failure}`);
    process.exit(1);
  }
  ours.push(run);
  pages.push(timePages());
  if (!hasQemu) continue;
  const peer = await qemu();
  if (peer.failure !== undefined) thrownAway++;
  else theirs.push(peer);
}

const of = (runs, field) => median(runs.map((run) => run[field]));
const row = (what, value, note = "") => console.log(`${what.padEnd(34)}${value.padStart(12)}  ${note}`.trimEnd());
console.log(`${guest.manifest.name}, ${MEMORY_MIB} MiB, 1 vCPU, "${APPEND}"; medians of ${ROUNDS} interleaved runs`);
console.log(`Node ${process.versions.node}, ${cpus().length} x ${cpus()[0]?.model ?? "CPU"}`);
row("seamless: process to user space", `${of(ours, "seconds").toFixed(2)} s`);
if (!hasQemu) row("QEMU TCG: process to user space", "-", `${QEMU} is not installed`);
else if (theirs.length === 0) row("QEMU TCG: process to user space", "-", `no run got there within ${LIMIT_SECONDS} s`);
else {
  const note = thrownAway > 0 ? `${thrownAway} run(s) thrown away: no user space after ${LIMIT_SECONDS} s` : "";
  row("QEMU TCG: process to user space", `${of(theirs, "seconds").toFixed(2)} s`, note);
  row("ratio", `${(of(ours, "seconds") / of(theirs, "seconds")).toFixed(2)} x`, "at most 3");
}
row("interpreter", `${of(ours, "mips").toFixed(0)} MIPS`, "at least 150");
row("process start to first instruction", `${of(ours, "startupSeconds").toFixed(2)} s`, "under 1");
row("4 KiB AUG", `${of(pages, "aug").toFixed(1)} us`, "under 3");
row("4 KiB ACCEPT", `${of(pages, "accept").toFixed(1)} us`, "under 3");
row("instructions to user space", `${(of(ours, "instructions") / 1e6).toFixed(0)} M`);
row("resident set", `${of(ours, "mib").toFixed(0)} MiB`, `at most ${MEMORY_MIB + 300}`);
