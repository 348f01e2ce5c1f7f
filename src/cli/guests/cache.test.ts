import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cacheFolder, GuestCache, type GuestManifest, sha256 } from "./cache.js";

const KERNEL = new TextEncoder().encode("a kernel");
const BUSYBOX = new TextEncoder().encode("a busybox");
const file = (bytes: Uint8Array) => ({ package: "p", version: "1", sha256: sha256(bytes), sizeBytes: bytes.length });
const MANIFEST: GuestManifest = { schema: 1, name: "debian:6.12.1", kernel: file(KERNEL), busybox: file(BUSYBOX) };

let folder: string;
let cache: GuestCache;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cache-"));
  cache = new GuestCache(folder);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the guest cache", () => {
  it("lies under the user's cache folder", () => {
    expect(cacheFolder({ XDG_CACHE_HOME: "/var/tmp/c" })).toBe("/var/tmp/c/seamless");
    expect(cacheFolder({ XDG_CACHE_HOME: "relative" })).toMatch(/\.cache\/seamless$/);
  });

  it("gives back what was written, and nothing before that", async () => {
    expect(await cache.read("debian:6.12")).toBeUndefined();
    await cache.write("debian:6.12", MANIFEST, KERNEL, BUSYBOX);
    const guest = await cache.read("debian:6.12");
    expect(guest?.manifest).toEqual(MANIFEST);
    expect(Buffer.from(guest?.kernel ?? []).toString()).toBe("a kernel");
    expect((await cache.list()).map(({ name }) => name)).toEqual(["debian:6.12.1"]);
    expect(readdirSync(join(folder, "staging"))).toEqual([]);
  });

  it("replaces what was there", async () => {
    await cache.write("debian:6.12", MANIFEST, KERNEL, BUSYBOX);
    await cache.write("debian:6.12", { ...MANIFEST, name: "debian:6.12.2" }, KERNEL, BUSYBOX);
    expect((await cache.read("debian:6.12"))?.manifest.name).toBe("debian:6.12.2");
  });

  it.each([
    ["a cut kernel", (place: string) => truncateSync(join(place, "vmlinuz"), 3)],
    ["a missing busybox", (place: string) => rmSync(join(place, "busybox"))],
    ["a changed byte", (place: string) => writeFileSync(join(place, "busybox"), "A busybox")],
    ["a cut manifest", (place: string) => truncateSync(join(place, "manifest.json"), 20)],
    ["a foreign manifest", (place: string) => writeFileSync(join(place, "manifest.json"), "[1, 2]")],
  ])("does not trust a guest with %s", async (_, damage) => {
    await cache.write("debian:6.12", MANIFEST, KERNEL, BUSYBOX);
    damage(join(folder, "guests", "debian-6.12"));
    expect(await cache.read("debian:6.12")).toBeUndefined();
    expect(await cache.holds("debian:6.12")).toBe(true);
    await cache.write("debian:6.12", MANIFEST, KERNEL, BUSYBOX);
    expect(await cache.read("debian:6.12")).toBeDefined();
  });

  it("clears away what a run that is gone had half prepared, and leaves that of others", async () => {
    const gone = join(folder, "staging", "999999999-abc");
    const alive = join(folder, "staging", `${process.pid}-abc`);
    await mkdir(gone, { recursive: true });
    await mkdir(alive, { recursive: true });
    await cache.staging();
    const left = readdirSync(join(folder, "staging"));
    expect(left).toContain(`${process.pid}-abc`);
    expect(left).not.toContain("999999999-abc");
  });

  it("removes a guest, once", async () => {
    await cache.write("debian:6.12", MANIFEST, KERNEL, BUSYBOX);
    expect(await cache.remove("debian:6.12")).toBe(true);
    expect(await cache.remove("debian:6.12")).toBe(false);
  });

  it("says what is wrong when its folder cannot be used", async () => {
    const inTheWay = join(folder, "file");
    writeFileSync(inTheWay, "");
    const error = await new GuestCache(inTheWay).staging().catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "FILE_ENOTDIR" });
  });
});
