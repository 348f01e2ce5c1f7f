import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writeCpio } from "./cpio.js";
import { makeInitramfs } from "./initramfs.js";

const text = (value: string) => new TextEncoder().encode(value);

const hasCpio = spawnSync("cpio", ["--version"]).status === 0;

/** Reads the archive with the system's own cpio. */
function cpio(archive: Uint8Array, args: readonly string[], cwd?: string): string {
  const finished = spawnSync("cpio", args, { input: archive, ...(cwd ? { cwd } : {}) });
  expect(finished.stderr.toString()).not.toMatch(/error|premature|malformed/i);
  return finished.stdout.toString();
}

describe("the cpio writer", () => {
  const archive = writeCpio([
    { kind: "directory", path: "bin" },
    { kind: "file", path: "bin/tool", data: text("hello\n"), mode: 0o755 },
    { kind: "link", path: "bin/sh", target: "tool" },
    { kind: "character-device", path: "console", major: 5, minor: 1 },
    { kind: "file", path: "empty", data: text("") },
  ]);

  it("writes headers, names and data at multiples of four", () => {
    const letters = new TextDecoder("latin1").decode(archive);
    expect(letters.slice(0, 6)).toBe("070701");
    expect(archive.length % 4).toBe(0);
    for (const match of letters.matchAll(/070701/g)) expect(match.index % 4).toBe(0);
    expect(letters.indexOf("hello\n") % 4).toBe(0);
    expect(letters).toContain("TRAILER!!!\0");
  });

  it("states type and permissions", () => {
    const letters = new TextDecoder("latin1").decode(archive);
    const modeOf = (name: string) => {
      const at = letters.lastIndexOf("070701", letters.indexOf(`${name}\0`));
      return Number.parseInt(letters.slice(at + 14, at + 22), 16).toString(8);
    };
    expect(["bin", "bin/tool", "bin/sh", "console", "empty"].map(modeOf)).toEqual([
      "40755",
      "100755",
      "120777",
      "20600",
      "100644",
    ]);
  });

  it("gives the same bytes for the same entries", () => {
    const busybox = text("not really");
    expect(makeInitramfs({ busybox })).toEqual(makeInitramfs({ busybox }));
    expect(makeInitramfs({ busybox, rc: "true" })).not.toEqual(makeInitramfs({ busybox }));
  });

  it("is read by cpio", (context) => {
    context.skip(!hasCpio, "cpio is not installed");
    expect(cpio(archive, ["-t"]).trim().split("\n")).toEqual(["bin", "bin/tool", "bin/sh", "console", "empty"]);
    const folder = mkdtempSync(join(tmpdir(), "cpio-"));
    try {
      expect(cpio(archive, ["-i", "--to-stdout", "bin/tool"], folder)).toBe("hello\n");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
