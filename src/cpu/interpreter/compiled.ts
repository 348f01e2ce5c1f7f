import { generateInterpreter } from "./generate.js";

const compiled = new Map<boolean, WebAssembly.Module>();

/** The interpreter for a shared or unshared memory, generated and compiled once in a process. */
export function compiledInterpreter(shared: boolean): WebAssembly.Module {
  const known = compiled.get(shared);
  if (known) return known;
  const module = new WebAssembly.Module(interpreterImage(shared));
  compiled.set(shared, module);
  return module;
}

/** The interpreter in WebAssembly's binary format: the same for every size of memory. */
export function interpreterImage(shared: boolean): Uint8Array<ArrayBuffer> {
  return generateInterpreter({ shared, initialPages: 1, maximumPages: 0x1_0000 });
}
