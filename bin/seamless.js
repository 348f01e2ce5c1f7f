#!/usr/bin/env node

// The command: prepares the clone that it lies in when that is needed, then hands over to src/cli.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { prepare, root } from "./prepare.js";

prepare();
const { main } = await import(pathToFileURL(join(root, "dist", "command", "main.js")).href);
await main(process.argv.slice(2));
