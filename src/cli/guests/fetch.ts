import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileError, UserError } from "../errors.js";
import { AptSuite, type PackageInfo } from "./apt.js";
import { type CachedFile, type CachedGuest, type GuestCache, sha256 } from "./cache.js";
import { BASE_SUITE, type GuestFamily, imagePackage, isBusybox, isKernelImage, kernelsOf } from "./catalogue.js";
import { readFromPackage } from "./deb.js";

/** Where progress goes. */
export type Say = (line: string) => void;

/** The cached guest; fetched first when it is absent or broken. */
export async function obtainGuest(cache: GuestCache, family: GuestFamily, say: Say): Promise<CachedGuest> {
  const cached = await cache.read(family.name);
  if (cached !== undefined) return cached;
  if (await cache.holds(family.name)) say(`the cached ${family.name} is damaged or incomplete; fetching it again`);
  return fetchGuest(cache, family, say);
}

/** Fetches the newest kernel of the family and busybox-static through apt, and puts both into the cache. */
export async function fetchGuest(cache: GuestCache, family: GuestFamily, say: Say): Promise<CachedGuest> {
  const staging = await cache.staging();
  try {
    const base = await openSuite(staging, BASE_SUITE, say);
    const suite = family.suite === BASE_SUITE ? base : await openSuite(staging, family.suite, say);
    const kernel = await fetchKernel(suite, family, say);
    const busybox = await fetchFile(base, "busybox-static", isBusybox, say);
    const name = `debian:${kernel.version}`;
    const manifest = { schema: 1, name, kernel: kernel.file, busybox: busybox.file } as const;
    await cache.write(family.name, manifest, kernel.bytes, busybox.bytes);
    say(`${name} is in the cache (${kernel.file.package} ${kernel.file.version})`);
  } catch (error) {
    throw fileError(error, "the cache folder", staging);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  const cached = await cache.read(family.name);
  if (cached !== undefined) return cached;
  throw new UserError("CACHE_UNUSABLE", `what was written to ${cache.folder} reads back differently`, "check the disk");
}

async function openSuite(staging: string, suite: string, say: Say): Promise<AptSuite> {
  const folder = join(staging, suite);
  await mkdir(folder, { recursive: true });
  say(`reading the package lists of Debian ${suite}`);
  return AptSuite.open(folder, suite);
}

interface FetchedFile {
  readonly file: CachedFile;
  readonly bytes: Uint8Array;
}

async function fetchKernel(apt: AptSuite, family: GuestFamily, say: Say): Promise<FetchedFile & { version: string }> {
  const newest = kernelsOf(family.series, await apt.names("linux-image-"))[0];
  if (newest === undefined) {
    throw new UserError(
      "NOT_IN_ARCHIVE",
      `Debian ${apt.suite} has no linux-image-${family.series}.*-cloud-amd64 today`,
      "try another guest (`seamless guests list`), or bring a kernel: --kernel FILE --initrd FILE",
    );
  }
  const names = new Set(await apt.names("linux-binary-"));
  const fetched = await fetchFile(apt, imagePackage(newest.package, names), isKernelImage, say);
  return { ...fetched, version: newest.version };
}

async function fetchFile(
  apt: AptSuite,
  name: string,
  matches: (path: string) => boolean,
  say: Say,
): Promise<FetchedFile> {
  const info = await apt.info(name);
  say(`downloading ${name} ${info.version} (${megabytes(info)} MB)`);
  const bytes = await readFromPackage(await apt.download(name), matches);
  const file = { package: name, version: info.version, sha256: sha256(bytes), sizeBytes: bytes.length };
  return { file, bytes };
}

function megabytes(info: PackageInfo): string {
  return (info.sizeBytes / 1e6).toFixed(1);
}
