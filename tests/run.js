// `npm test`: installs and builds what has changed, then runs every test that this machine can run. Arguments go to vitest.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "../bin/prepare.js";

prepare();
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const reporters = ["--reporter=default", `--reporter=${join(root, "tests", "house", "closing-reporter.ts")}`];
const { status } = spawnSync(process.execPath, [vitest, "run", ...reporters, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
process.exit(status ?? 1);
