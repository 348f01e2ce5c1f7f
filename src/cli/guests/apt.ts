import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode, UserError } from "../errors.js";
import { type AptSource, debianArchive, parseDeb822, parseOneLine, sourceFor } from "./apt-sources.js";
import { type Finished, run } from "./process.js";

/** What the package lists say about one package. */
export interface PackageInfo {
  readonly package: string;
  readonly version: string;
  readonly sizeBytes: number;
}

/** The machine's package manager, pointed at a suite of our choice, with all that it keeps in a folder of ours. */
export class AptSuite {
  private constructor(
    private readonly folder: string,
    readonly suite: string,
  ) {}

  /** Prepares `folder` and downloads the lists of `suite` into it. */
  static async open(folder: string, suite: string): Promise<AptSuite> {
    const archive = debianArchive(await machineSources());
    if (archive === undefined) {
      throw new UserError(
        "NO_DEBIAN_ARCHIVE",
        "apt on this machine has no Debian archive among its sources",
        "run this on Debian (a container will do), or bring a kernel: --kernel FILE --initrd FILE",
      );
    }
    const apt = new AptSuite(folder, suite);
    await apt.#configure(archive);
    await apt.#run(["apt-get", "-q", "update"], `downloading the package lists of ${suite}`);
    return apt;
  }

  /** Names of all packages that begin with `prefix`. */
  async names(prefix: string): Promise<string[]> {
    const { stdout } = await this.#run(["apt-cache", "pkgnames", prefix], "reading the package lists");
    return stdout.split("\n").filter((name) => name !== "");
  }

  async info(name: string): Promise<PackageInfo> {
    const { stdout } = await this.#run(["apt-cache", "show", "--no-all-versions", name], `looking for ${name}`);
    const field = (wanted: string) => new RegExp(`^${wanted}: *(.*)$`, "m").exec(stdout)?.[1] ?? "";
    return { package: name, version: field("Version"), sizeBytes: Number(field("Size")) };
  }

  /** Downloads one package, checked by apt against the signed lists. Returns the path of the .deb. */
  async download(name: string): Promise<string> {
    const into = join(this.folder, "debs", name);
    await mkdir(into, { recursive: true });
    await this.#run(["apt-get", "-q", "download", name], `downloading ${name}`, into);
    const file = (await readdir(into)).find((entry) => entry.endsWith(".deb"));
    if (file === undefined) {
      throw new UserError("PACKAGE_MISSING", `apt-get downloaded no file for ${name}`, "try again later");
    }
    return join(into, file);
  }

  async #configure(archive: AptSource): Promise<void> {
    for (const part of ["lists/partial", "archives/partial"]) await mkdir(join(this.folder, part), { recursive: true });
    await writeFile(join(this.folder, "status"), "");
    await writeFile(join(this.folder, "debian.sources"), sourceFor(archive, this.suite));
    await writeFile(join(this.folder, "apt.conf"), await configuration(this.folder));
  }

  async #run(command: readonly [string, ...string[]], doing: string, cwd = this.folder): Promise<Finished> {
    const [program, ...args] = command;
    const finished = await aptProgram(program, args, cwd, join(this.folder, "apt.conf"));
    if (finished.status !== 0) throw aptError(doing, finished);
    return finished;
  }
}

/**
 * Our own apt.conf. Of the machine's configuration only the way to the network (Acquire: proxies, limits) is taken over;
 * hooks, pins and sources of the system stay out.
 */
async function configuration(folder: string): Promise<string> {
  const { stdout } = await aptProgram("apt-config", ["dump"]);
  const acquire = stdout.split("\n").filter((line) => /^Acquire::/.test(line));
  return `${[
    'Dir::Etc::main "/dev/null";',
    'Dir::Etc::parts "/dev/null";',
    'Dir::Etc::preferences "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    'Dir::Etc::sourceparts "/dev/null";',
    `Dir::Etc::sourcelist "${folder}/debian.sources";`,
    `Dir::State "${folder}";`,
    `Dir::State::lists "${folder}/lists";`,
    `Dir::State::status "${folder}/status";`,
    `Dir::Cache "${folder}";`,
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; };',
    // A cache folder below a home is closed to apt's own user; it would warn and go on as the caller anyway.
    'APT::Sandbox::User "";',
    ...acquire,
    'APT::Update::Error-Mode "any";',
    'Acquire::Languages "none";',
    'Acquire::Retries "2";',
    'Acquire::http::Timeout "30";',
    'Acquire::https::Timeout "30";',
  ].join("\n")}\n`;
}

/** All sources in the machine's configuration, in apt's order of reading. */
async function machineSources(): Promise<AptSource[]> {
  const { stdout } = await aptProgram("apt-config", [
    ...["shell", "list", "Dir::Etc::sourcelist/f"],
    ...["parts", "Dir::Etc::sourceparts/d"],
  ]);
  const setting = (name: string) => new RegExp(`^${name}='(.*)'$`, "m").exec(stdout)?.[1] ?? "";
  const parts = setting("parts");
  const inParts = (await readdir(parts).catch(() => [])).sort().map((file) => join(parts, file));
  const sources: AptSource[] = [];
  for (const path of [setting("list"), ...inParts]) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (path.endsWith(".list")) sources.push(...parseOneLine(text));
    if (path.endsWith(".sources")) sources.push(...parseDeb822(text));
  }
  return sources;
}

async function aptProgram(program: string, args: readonly string[], cwd?: string, conf?: string): Promise<Finished> {
  try {
    return await run(program, args, { ...(cwd ? { cwd } : {}), ...(conf ? { env: { APT_CONFIG: conf } } : {}) });
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    throw new UserError(
      "NO_PACKAGE_MANAGER",
      `this machine has no ${program}: Debian's kernel cannot be fetched without Debian's package manager`,
      "run this on Debian (a container will do), or bring a kernel: --kernel FILE --initrd FILE",
    );
  }
}

/** What apt says, and what it means: code, cause, next step. First match wins. */
const APT_TROUBLE: readonly (readonly [RegExp, string, string, string])[] = [
  [/No space left|not enough free space|ENOSPC/i, "DISK_FULL", "the disk is full", "free some space and try again"],
  [
    /does not have a Release file|40[04] +(Not Found|Bad Request)|Unable to locate package/i,
    "NOT_IN_ARCHIVE",
    "the machine's Debian archive does not have it",
    "see what apt says above, or bring a kernel: --kernel FILE --initrd FILE",
  ],
  [
    /NO_PUBKEY|not signed|EXPKEYSIG|KEYEXPIRED|verify the signature|keyring/i,
    "NO_KEYRING",
    "the machine's keyring does not know the archive's signature",
    "install the current debian-archive-keyring package and try again",
  ],
  [
    /resolv|Could not connect|Connection (refused|timed out|failed)|unreachable|timed out|Proxy|Unable to connect/i,
    "NO_NETWORK",
    "the Debian archive cannot be reached",
    "check the network and the proxy settings of apt, then try again",
  ],
];

function aptError(doing: string, finished: Finished): UserError {
  const said = finished.stderr.split("\n").filter((line) => /^[EW]: /.test(line));
  const last =
    said.find((line) => line.startsWith("E: ")) ?? said[0] ?? finished.stderr.trim().split("\n").at(-1) ?? "";
  const row = APT_TROUBLE.find(([pattern]) => pattern.test(finished.stderr));
  const [, code, cause, hint] = row ?? [null, "APT_FAILED", "apt failed", "see what apt says, then try again"];
  return new UserError(code, `${doing}: ${cause}${last === "" ? "" : ` (apt: ${last.slice(3)})`}`, hint);
}
