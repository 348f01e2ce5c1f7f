// What has to be there before anything of ours can run in a clone: packages installed, sources compiled. Each step is taken
// only when something has changed since. Plain JavaScript on purpose: it runs before any package is installed.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const OLDEST_NODE = 20;

/** Ends the process with a message of the usual shape: what is wrong, what to do. */
function giveUp(what, hint) {
  process.stderr.write(`seamless: ${what}\n  ${hint}\n`);
  process.exit(1);
}

function say(line) {
  process.stderr.write(`seamless: ${line}\n`);
}

/** Runs a program with its output on stderr: stdout belongs to the guest's console. */
function runQuietly(program, args) {
  return spawnSync(program, args, { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
}

/** True in a git clone; an installed package has no sources and is complete as it is. */
function isClone() {
  return existsSync(join(root, "src")) && existsSync(join(root, "tsconfig.build.json"));
}

function timeOf(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? -1;
}

function ensureInstalled() {
  // npm writes this file as its last step.
  const installed = timeOf(join(root, "node_modules", ".package-lock.json"));
  if (installed >= 0 && installed >= timeOf(join(root, "package-lock.json"))) return;
  say(installed < 0 ? "installing packages (npm ci)" : "package-lock.json has changed; installing packages (npm ci)");
  const { status, error } = runQuietly("npm", ["ci", "--include=dev", "--no-audit", "--no-fund"]);
  if (error !== undefined) giveUp("npm could not be started", "install npm (it comes with Node.js) and try again");
  if (status !== 0)
    giveUp("the packages could not be installed", "see what npm says above, then run the command again");
}

function* filesBelow(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

/** A digest of everything that the build reads: names, sizes and times. */
function sourceState() {
  const inputs = [...filesBelow(join(root, "src"))].filter(
    (path) => path.endsWith(".ts") && !path.endsWith(".test.ts"),
  );
  for (const name of ["tsconfig.json", "tsconfig.build.json", "package-lock.json"]) inputs.push(join(root, name));
  const digest = createHash("sha256");
  for (const path of inputs.sort()) {
    const { size, mtimeMs } = statSync(path);
    digest.update(`${relative(root, path)} ${size} ${mtimeMs}\n`);
  }
  return digest.digest("hex");
}

/** Each step of the build: what to run, below the clone or the new build, and its arguments. */
const buildSteps = (next) => [
  [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--outDir", next],
  // What generates the interpreter runs once here, not at every start.
  [join(next, "cli/write-interpreter.js")],
  // Some hundred small modules take longer to load than to run; the command loads a few large ones.
  [
    join(root, "node_modules/rolldown/bin/cli.mjs"),
    join(next, "cli/main.js"),
    ...["--dir", join(next, "command")],
    ...["--platform", "node", "--external", "commander", "--log-level", "warn"],
  ],
];

function ensureBuilt() {
  const dist = join(root, "dist");
  const stamp = join(dist, ".sources");
  const state = sourceState();
  const built = existsSync(stamp) ? readFileSync(stamp, "utf8") : "";
  if (built === state) return;
  say(built === "" ? "building" : "the sources have changed; building");
  const next = `${dist}.${process.pid}`;
  for (const step of buildSteps(next)) {
    const { status, stdout, stderr } = spawnSync(process.execPath, step, { cwd: root, encoding: "utf8" });
    if (status === 0) continue;
    process.stderr.write(stdout + stderr);
    rmSync(next, { recursive: true, force: true });
    giveUp("the build failed", "see what is said above");
  }
  writeFileSync(join(next, ".sources"), state);
  const old = `${dist}.old.${process.pid}`;
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(next, dist);
  rmSync(old, { recursive: true, force: true });
}

/** Installs and builds what is missing or stale. */
export function prepare() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < OLDEST_NODE) {
    giveUp(`Node.js ${process.versions.node} is too old`, `install Node.js ${OLDEST_NODE} or newer and try again`);
  }
  // A test run prepares once for all the commands that it starts.
  if (!isClone() || process.env.SEAMLESS_PREPARED === "1") return;
  try {
    ensureInstalled();
    ensureBuilt();
  } catch (error) {
    giveUp(
      `the clone could not be prepared (${error.message})`,
      `check that ${root} can be written and the disk has room`,
    );
  }
}
