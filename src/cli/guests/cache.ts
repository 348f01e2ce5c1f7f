import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileError } from "../errors.js";

/** One file of a cached guest. */
export interface CachedFile {
  readonly package: string;
  readonly version: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** What lies beside a cached guest's files and says what they must be. */
export interface GuestManifest {
  readonly schema: 1;
  /** Full name with the upstream version: `debian:6.12.117`. */
  readonly name: string;
  readonly kernel: CachedFile;
  readonly busybox: CachedFile;
}

/** A guest that is wholly there. */
export interface CachedGuest {
  readonly manifest: GuestManifest;
  readonly kernelPath: string;
  readonly kernel: Uint8Array;
  readonly busybox: Uint8Array;
}

const MANIFEST = "manifest.json";
const KERNEL = "vmlinuz";
const BUSYBOX = "busybox";

/** The user's cache folder, ours below it. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const base = environment.XDG_CACHE_HOME;
  return join(base?.startsWith("/") ? base : join(homedir(), ".cache"), "seamless");
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Debian guests in the user's cache folder, a folder each. A folder is there whole or not at all. */
export class GuestCache {
  constructor(readonly folder: string = cacheFolder()) {}

  #place(family: string): string {
    return join(this.folder, "guests", family.replace(":", "-"));
  }

  /** The cached guest, or undefined when it is absent or any of its bytes is not what the manifest says. */
  async read(family: string): Promise<CachedGuest | undefined> {
    const place = this.#place(family);
    const manifest = await readManifest(place);
    if (manifest === undefined) return undefined;
    const kernelPath = join(place, KERNEL);
    const kernel = await readFile(kernelPath).catch(() => undefined);
    const busybox = await readFile(join(place, BUSYBOX)).catch(() => undefined);
    if (kernel === undefined || busybox === undefined) return undefined;
    if (sha256(kernel) !== manifest.kernel.sha256 || sha256(busybox) !== manifest.busybox.sha256) return undefined;
    return { manifest, kernelPath, kernel, busybox };
  }

  /** True if something lies under this name, sound or not. */
  async holds(family: string): Promise<boolean> {
    return stat(this.#place(family)).then(
      () => true,
      () => false,
    );
  }

  /** Puts a guest in place of what was there, in one step. */
  async write(family: string, manifest: GuestManifest, kernel: Uint8Array, busybox: Uint8Array): Promise<void> {
    const place = this.#place(family);
    const staging = await this.staging();
    try {
      await writeFile(join(staging, KERNEL), kernel);
      await writeFile(join(staging, BUSYBOX), busybox);
      await writeFile(join(staging, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
      await mkdir(join(this.folder, "guests"), { recursive: true });
      await rm(place, { recursive: true, force: true });
      await rename(staging, place);
    } catch (error) {
      throw fileError(error, "the guest cache", place);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  /** A fresh folder to prepare things in; what earlier, ended runs left behind goes away. */
  async staging(): Promise<string> {
    const root = join(this.folder, "staging");
    try {
      await mkdir(root, { recursive: true });
      for (const entry of await readdir(root)) {
        if (!processIsAlive(Number(entry.split("-")[0]))) await rm(join(root, entry), { recursive: true, force: true });
      }
      return await mkdtemp(join(root, `${process.pid}-`));
    } catch (error) {
      throw fileError(error, "the cache folder", root);
    }
  }

  async list(): Promise<GuestManifest[]> {
    const root = join(this.folder, "guests");
    const entries = await readdir(root).catch(() => []);
    const manifests = await Promise.all(entries.sort().map((entry) => readManifest(join(root, entry))));
    return manifests.filter((manifest) => manifest !== undefined);
  }

  /** Removes one guest; returns whether it was there. */
  async remove(family: string): Promise<boolean> {
    const held = await this.holds(family);
    await rm(this.#place(family), { recursive: true, force: true });
    return held;
  }
}

async function readManifest(place: string): Promise<GuestManifest | undefined> {
  try {
    const parsed: unknown = JSON.parse(await readFile(join(place, MANIFEST), "utf8"));
    return isManifest(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isManifest(value: unknown): value is GuestManifest {
  if (typeof value !== "object" || value === null) return false;
  const { schema, name, kernel, busybox } = value as Partial<GuestManifest>;
  return schema === 1 && typeof name === "string" && isCachedFile(kernel) && isCachedFile(busybox);
}

function isCachedFile(value: unknown): value is CachedFile {
  return typeof value === "object" && value !== null && typeof (value as Partial<CachedFile>).sha256 === "string";
}

function processIsAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
