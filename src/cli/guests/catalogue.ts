import { usageError } from "../errors.js";

/** A family of Debian's cloud kernels that `run` and `guests fetch` know by name. */
export interface GuestFamily {
  /** As the user writes it. */
  readonly name: string;
  /** Beginning of the upstream version, whole components. */
  readonly series: string;
  readonly suite: string;
}

export const GUEST_FAMILIES: readonly GuestFamily[] = [
  { name: "debian:6.12", series: "6.12", suite: "trixie" },
  { name: "debian:6.18", series: "6.18", suite: "trixie-backports" },
  { name: "debian:7", series: "7", suite: "trixie-backports" },
];

/** busybox comes from here, whatever the kernel. */
export const BASE_SUITE = "trixie";

const ALIASES: Readonly<Record<string, string>> = { debian: "debian:6.12" };

export function findFamily(name: string): GuestFamily | undefined {
  const full = ALIASES[name] ?? name;
  return GUEST_FAMILIES.find((family) => family.name === full);
}

export function requireFamily(name: string): GuestFamily {
  const family = findFamily(name);
  if (family !== undefined) return family;
  const known = GUEST_FAMILIES.map((each) => each.name).join(", ");
  throw usageError("UNKNOWN_GUEST", `there is no Debian guest named ${JSON.stringify(name)}`, `known are ${known}`);
}

/** A kernel package: its name carries upstream version and flavour. */
export interface KernelPackage {
  readonly package: string;
  readonly version: string;
}

const KERNEL_PACKAGE = /^linux-image-((\d+(?:\.\d+)*)(?:\+[a-z0-9]+)?)-cloud-amd64$/;

/** The kernels of one series among package names, newest first. */
export function kernelsOf(series: string, names: readonly string[]): KernelPackage[] {
  const kernels: KernelPackage[] = [];
  for (const name of names) {
    const version = KERNEL_PACKAGE.exec(name)?.[2];
    if (version !== undefined && `${version}.`.startsWith(`${series}.`)) kernels.push({ package: name, version });
  }
  return kernels.sort((a, b) => compareVersions(b.version, a.version));
}

function compareVersions(a: string, b: string): number {
  const left = a.split(".").map(Number);
  const right = b.split(".").map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * The package that holds the kernel image: since 6.19 Debian's linux-image package is empty and depends on a linux-binary
 * package with the image in it.
 */
export function imagePackage(kernel: string, names: ReadonlySet<string>): string {
  const split = kernel.replace("linux-image-", "linux-binary-");
  return names.has(split) ? split : kernel;
}

/** True for the kernel image inside either kind of package. */
export function isKernelImage(path: string): boolean {
  return /^\.\/(boot\/vmlinuz-[^/]+|(usr\/)?lib\/modules\/[^/]+\/vmlinuz)$/.test(path);
}

export function isBusybox(path: string): boolean {
  return /^\.\/(usr\/)?bin\/busybox$/.test(path);
}
