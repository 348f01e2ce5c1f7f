import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Where the build puts the generated interpreter, beside the compiled sources. */
export const INTERPRETER_FILE = fileURLToPath(new URL("../interpreter.wasm", import.meta.url));

/** The interpreter that the build has generated; undefined: there is none, and the core generates its own. */
export function builtInterpreter(): WebAssembly.Module | undefined {
  if (!existsSync(INTERPRETER_FILE)) return undefined;
  return new WebAssembly.Module(readFileSync(INTERPRETER_FILE));
}
