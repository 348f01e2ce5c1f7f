import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConsoleMatcher } from "./console-matcher.js";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("the console matcher", () => {
  it("finds a text that overlaps itself", () => {
    const matcher = new ConsoleMatcher("aab");
    expect(matcher.push(bytes("aa"))).toBe(false);
    expect(matcher.push(bytes("ab"))).toBe(true);
  });

  it("says so once", () => {
    const matcher = new ConsoleMatcher("x");
    expect(matcher.push(bytes("x"))).toBe(true);
    expect(matcher.push(bytes("x"))).toBe(false);
  });

  it("agrees with a search over the whole, wherever the pieces are cut", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 24 });
    const text = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 6 }), text, (pieces, wanted) => {
        const matcher = new ConsoleMatcher(wanted);
        const found = pieces.map((piece) => matcher.push(bytes(piece))).filter(Boolean).length;
        expect(found).toBe(pieces.join("").includes(wanted) ? 1 : 0);
      }),
    );
  });
});
