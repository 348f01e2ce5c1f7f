// `npm run oracle`: compiles the oracle and what it tests, then runs it. `--help` is in the README.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "../../bin/prepare.js";

prepare();
const compiler = join(root, "node_modules/typescript/bin/tsc");
const compiled = spawnSync(process.execPath, [compiler, "-p", join(import.meta.dirname, "tsconfig.json")], {
  stdio: "inherit",
});
if (compiled.status !== 0) process.exit(1);
const main = join(root, "node_modules/.cache/native-oracle/js/tests/native-oracle/main.js");
process.exit(
  spawnSync(process.execPath, [main, ...process.argv.slice(2)], { cwd: root, stdio: "inherit" }).status ?? 1,
);
