import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOMS } from "./import-rule.js";

const root = join(import.meta.dirname, "../..");
const SCREEN = 50;

describe("the house", () => {
  it.each(ROOMS)("src/%s has a README of at most a screen", (room) => {
    const path = join(root, "src", room, "README.md");
    expect(existsSync(path)).toBe(true);
    expect(readFileSync(path, "utf8").split("\n").length).toBeLessThanOrEqual(SCREEN);
  });

  it.each(["README.md", "docs/SPECIFICATION.md"])("%s names only tests that exist", (document) => {
    const text = readFileSync(join(root, document), "utf8");
    const named = [...text.matchAll(/`((?:src|tests)\/[^`\s]+\.test\.ts)`/g)].map((match) => match[1] ?? "");
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it("shows every statement of the patch", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    for (let n = 1; n <= 14; n++) expect(readme).toContain(`| S${n} |`);
  });
});
