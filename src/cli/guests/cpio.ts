import { concat } from "../../vmm/bytes.js";

/** An entry of an initramfs. Times, owners and inode numbers are fixed, so that the same content gives the same bytes. */
export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | { readonly kind: "file"; readonly path: string; readonly data: Uint8Array; readonly mode?: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | {
      readonly kind: "character-device";
      readonly path: string;
      readonly major: number;
      readonly minor: number;
      readonly mode?: number;
    };

/** File types of st_mode. */
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

const MAGIC = "070701";
const TRAILER = "TRAILER!!!";

const TEXT = new TextEncoder();

interface Record {
  readonly path: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

function recordOf(entry: CpioEntry): Record {
  const base = { path: entry.path, data: new Uint8Array(), major: 0, minor: 0 };
  switch (entry.kind) {
    case "directory":
      return { ...base, mode: S_IFDIR | (entry.mode ?? 0o755) };
    case "file":
      return { ...base, mode: S_IFREG | (entry.mode ?? 0o644), data: entry.data };
    case "link":
      return { ...base, mode: S_IFLNK | 0o777, data: TEXT.encode(entry.target) };
    case "character-device":
      return { ...base, mode: S_IFCHR | (entry.mode ?? 0o600), major: entry.major, minor: entry.minor };
  }
}

/** Writes the portable "newc" form (Documentation/driver-api/early-userspace/buffer-format): 13 hex fields, 4-byte padding. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  const append = (bytes: Uint8Array) => {
    parts.push(bytes);
    length += bytes.length;
  };
  const pad = () => append(new Uint8Array(-length & 3));

  const write = (record: Record, inode: number) => {
    const name = TEXT.encode(`${record.path}\0`);
    const links = (record.mode & S_IFDIR) !== 0 && (record.mode & S_IFREG) === 0 ? 2 : 1;
    const owner = [0, 0];
    const time = 0;
    const device = [0, 0];
    const fields = [inode, record.mode, ...owner, links, time, record.data.length, ...device];
    const header = [...fields, record.major, record.minor, name.length, 0];
    append(TEXT.encode(MAGIC + header.map((field) => field.toString(16).padStart(8, "0")).join("")));
    append(name);
    pad();
    append(record.data);
    pad();
  };

  entries.forEach((entry, index) => {
    write(recordOf(entry), index + 1);
  });
  write({ path: TRAILER, mode: 0, data: new Uint8Array(), major: 0, minor: 0 }, 0);

  return concat(...parts);
}
