import { spawn } from "node:child_process";
import { UserError } from "../errors.js";

const BLOCK = 512;

/** One header of a tar archive: what it calls its member, and how long that is. */
interface TarMember {
  readonly name: string;
  readonly size: number;
  readonly isFile: boolean;
}

function parseHeader(block: Buffer): TarMember | undefined {
  const text = (from: number, to: number) => block.toString("latin1", from, to).replace(/\0.*$/s, "");
  const name = text(0, 100);
  if (name === "") return undefined;
  const prefix = text(257, 262) === "ustar" ? text(345, 500) : "";
  const type = text(156, 157);
  const path = prefix === "" ? name : `${prefix}/${name}`;
  return { name: path, size: Number.parseInt(text(124, 136).trim() || "0", 8), isFile: type === "" || type === "0" };
}

/** Finds members in a tar archive that arrives in pieces; stops reading once it has the one it wants. */
export class TarSearch {
  #pending: Buffer = Buffer.alloc(0);
  #skip = 0;
  #wanted: TarMember | undefined;
  /** The member's bytes, once found. */
  found: Buffer | undefined;

  constructor(private readonly matches: (path: string) => boolean) {}

  /** Takes the next piece. Returns true when nothing more is needed. */
  push(chunk: Buffer): boolean {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (this.found === undefined && this.#step()) {}
    return this.found !== undefined;
  }

  #step(): boolean {
    const skipped = Math.min(this.#skip, this.#pending.length);
    this.#pending = this.#pending.subarray(skipped);
    this.#skip -= skipped;
    if (this.#skip > 0) return false;
    if (this.#wanted !== undefined) {
      if (this.#pending.length < this.#wanted.size) return false;
      this.found = this.#pending.subarray(0, this.#wanted.size);
      return true;
    }
    if (this.#pending.length < BLOCK) return false;
    const member = parseHeader(this.#pending.subarray(0, BLOCK));
    this.#pending = this.#pending.subarray(BLOCK);
    if (member?.isFile && this.matches(member.name)) this.#wanted = member;
    else this.#skip = Math.ceil((member?.size ?? 0) / BLOCK) * BLOCK;
    return true;
  }
}

/** Reads one file out of a Debian package; the package manager unpacks, nothing is installed. */
export function readFromPackage(deb: string, matches: (path: string) => boolean): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn("dpkg-deb", ["--fsys-tarfile", deb], { stdio: ["ignore", "pipe", "ignore"] });
    const search = new TarSearch(matches);
    child.stdout.on("data", (chunk: Buffer) => {
      if (search.push(chunk)) child.stdout.destroy();
    });
    child.on("error", reject);
    child.on("close", () => {
      if (search.found !== undefined) resolve(search.found);
      else {
        reject(
          new UserError("PACKAGE_BROKEN", `the file that we want is not in ${deb}`, "fetch again, or bring a kernel"),
        );
      }
    });
  });
}
