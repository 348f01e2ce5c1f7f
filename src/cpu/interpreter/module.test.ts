import { describe, expect, it } from "vitest";
import { generateInterpreter } from "./generate.js";
import { handlerTable, PSEUDO_HANDLERS } from "./handlers.js";

const code = generateInterpreter({ shared: true, initialPages: 1, maximumPages: 0x1_0000 });

describe("the generated module", () => {
  it("is valid here, imports the memory and nothing else", () => {
    expect(WebAssembly.validate(code)).toBe(true);
    expect(WebAssembly.Module.imports(new WebAssembly.Module(code))).toEqual([
      { module: "m", name: "m", kind: "memory" },
    ]);
  });

  it("is the same each time", () => {
    expect(
      Buffer.from(generateInterpreter({ shared: true, initialPages: 1, maximumPages: 0x1_0000 })).equals(code),
    ).toBe(true);
  });

  it("has functions, a table and exports, no start function, no data", () => {
    const sections = sectionsOf(code);
    expect(sections.has(8)).toBe(false);
    expect(sections.has(11)).toBe(false);
    // Tag section (exceptions) and anything newer came after Node 20.
    for (const id of sections.keys()) expect(id).toBeLessThanOrEqual(12);
  });

  it("has handlers of an expected number, all numbered once", () => {
    const { variants, hotCount, numbers } = handlerTable();
    expect(variants.length).toBeGreaterThan(1000);
    expect(variants.length).toBeLessThan(6000);
    expect(hotCount).toBeGreaterThan(100);
    // The main loop must stay small enough for the optimizing compiler.
    expect(hotCount).toBeLessThan(800);
    const all = [...numbers.values()].flatMap((ofRow) => [...ofRow.values()]);
    expect(new Set(all).size).toBe(all.length);
    expect(Math.min(...all)).toBe(PSEUDO_HANDLERS);
    expect(Math.max(...all)).toBe(PSEUDO_HANDLERS + variants.length - 1);
    expect(Math.max(...all)).toBeLessThan(0x1_0000);
  });

  it("has code of an expected size", () => {
    expect(code.length).toBeGreaterThan(300_000);
    expect(code.length).toBeLessThan(3_000_000);
  });
});

/** Sizes of the sections by id. */
function sectionsOf(module: Uint8Array): Map<number, number> {
  const found = new Map<number, number>();
  let at = 8;
  while (at < module.length) {
    const id = module[at++] as number;
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = module[at++] as number;
      size += (byte & 0x7f) * 2 ** shift;
      if (!(byte & 0x80)) break;
    }
    found.set(id, size);
    at += size;
  }
  return found;
}
