import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { GuestReport } from "../observe/outcome.js";
import { fileError } from "./errors.js";
import { type CachedGuest, GuestCache, sha256 } from "./guests/cache.js";
import { obtainGuest, type Say } from "./guests/fetch.js";
import { makeInitramfs } from "./guests/initramfs.js";
import type { Payload } from "./machine.js";
import type { GuestChoice } from "./run-request.js";

/** A payload and how the outcome calls it. */
export interface LoadedGuest {
  readonly payload: Payload;
  readonly report: GuestReport;
}

/** What a caller may know of one of Debian's guests. */
export interface GuestExtras {
  /** Shell text that /init runs before its shell. */
  readonly rc?: string;
  /** The guest, where it has been read from the cache before. */
  readonly cached?: CachedGuest;
}

/** Reads, or fetches, what the user chose to boot. */
export async function loadGuest(choice: GuestChoice, say: Say, { rc, cached }: GuestExtras = {}): Promise<LoadedGuest> {
  switch (choice.kind) {
    case "debian": {
      const { manifest, kernelPath, kernel, busybox } =
        cached ?? (await obtainGuest(new GuestCache(), choice.family, say));
      const initrd = makeInitramfs({ busybox, ...(rc === undefined ? {} : { rc }) });
      const report = { name: manifest.name, kernel: basename(kernelPath), sha256: manifest.kernel.sha256 };
      return { payload: { kind: "kernel", kernel, initrd }, report };
    }
    case "files": {
      const kernel = await read("the kernel", choice.kernel);
      const initrd = choice.initrd === undefined ? undefined : await read("the initrd", choice.initrd);
      const report = { name: null, kernel: basename(choice.kernel), sha256: sha256(kernel) };
      return { payload: { kind: "kernel", kernel, initrd }, report };
    }
    case "small-td":
      return { payload: choice, report: { name: choice.name, kernel: choice.name, sha256: "" } };
  }
}

async function read(what: string, path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw fileError(error, what, path);
  }
}
