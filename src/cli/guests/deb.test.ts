import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TarSearch } from "./deb.js";

/** One ustar member. */
function member(name: string, data: string, type = "0"): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(data.length.toString(8).padStart(11, "0"), 124);
  header.write(type, 156);
  header.write("ustar", 257);
  return Buffer.concat([header, Buffer.from(data), Buffer.alloc(-data.length & 511)]);
}

const ARCHIVE = Buffer.concat([
  member("./boot/", "", "5"),
  member("./boot/config", "x".repeat(700)),
  member("./boot/vmlinuz-1", "kernel bytes"),
  member("./boot/later", "y"),
  Buffer.alloc(1024),
]);

describe("the search in a tar archive", () => {
  it("finds a member wherever the pieces are cut", () => {
    const cuts = fc.array(fc.integer({ min: 0, max: ARCHIVE.length }), { maxLength: 8 });
    fc.assert(
      fc.property(cuts, (places) => {
        const search = new TarSearch((path) => path.startsWith("./boot/vmlinuz"));
        const edges = [0, ...places.sort((a, b) => a - b), ARCHIVE.length];
        for (let i = 1; i < edges.length; i++) search.push(ARCHIVE.subarray(edges[i - 1], edges[i]));
        expect(search.found?.toString()).toBe("kernel bytes");
      }),
    );
  });

  it("finds nothing where there is nothing", () => {
    const search = new TarSearch((path) => path === "./etc/passwd");
    expect(search.push(ARCHIVE)).toBe(false);
    expect(search.found).toBeUndefined();
  });
});
