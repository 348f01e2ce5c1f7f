import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fileOutput, streamOutput } from "./output.js";

const bytes = (text: string) => new TextEncoder().encode(text);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "console-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("the console's way out", () => {
  it("writes a line at once, and the rest when the slice is over", async () => {
    const stream = new PassThrough();
    const output = streamOutput(stream as unknown as NodeJS.WriteStream);
    for (const letter of "one\ntwo") output.write(bytes(letter));
    expect(stream.read()?.toString()).toBe("one\n");
    await Promise.resolve();
    expect(stream.read()?.toString()).toBe("two");
  });

  it("says so when nobody reads any more", () => {
    const stream = new PassThrough();
    const output = streamOutput(stream as unknown as NodeJS.WriteStream);
    expect(output.write(bytes("a\n"))).toBe(true);
    stream.emit("error", Object.assign(new Error("closed"), { code: "EPIPE" }));
    expect(output.write(bytes("b\n"))).toBe(false);
  });

  it("writes a file anew, the last piece when it is closed", () => {
    const path = join(folder, "console");
    for (const text of ["first run, longer", "second"]) {
      const output = fileOutput(path);
      output.write(bytes(text));
      output.close();
      output.close();
    }
    expect(readFileSync(path, "utf8")).toBe("second");
  });

  it("names the file that it cannot make", () => {
    expect(() => fileOutput(join(folder, "no/such/console"))).toThrow("no/such/console does not exist");
  });
});
