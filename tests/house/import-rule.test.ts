import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { brokenRule, checkImports, importsOf } from "./import-rule.js";

describe("the rule between rooms", () => {
  it("holds in the whole of src/", () => {
    expect(checkImports(join(import.meta.dirname, "../../src"))).toEqual([]);
  });

  it("sees every form of import", () => {
    const text = `
import { a } from "./a.js";
import type {
  B,
} from "../cpu/b.js";
export * from "./c.js";
import "./d.js";
const e = await import("./e.js");
// import { f } from words
`;
    expect(importsOf(text)).toEqual(["./a.js", "../cpu/b.js", "./c.js", "./d.js", "./e.js"]);
  });

  it.each([
    ["cpu/core.ts", "wasm/module.ts", true],
    ["cpu/core.ts", "platform/seam.ts", false],
    ["tdx-module/leaves/vp-enter.ts", "platform/seam.ts", true],
    ["tdx-module/leaves/vp-enter.ts", "platform/platform.ts", false],
    ["host/kvm/vm.ts", "tdx-module/module.ts", false],
    ["vmm/machine.ts", "host/kvm/vm.ts", true],
    ["observe/inject.ts", "node:fs", false],
    ["cli/run.ts", "node:fs", true],
  ])("%s -> %s: %s", (file, imported, allowed) => {
    expect(brokenRule(file, imported) === undefined).toBe(allowed);
  });
});
