import type { HostProfile } from "../host/mm/host-profile.js";
import type { InjectionSpec } from "../observe/injection/grammar.js";
import type { ModuleProfile } from "../tdx-module/index.js";
import { usageError } from "./errors.js";
import { findFamily, GUEST_FAMILIES, type GuestFamily } from "./guests/catalogue.js";
import {
  parseChoice,
  parseCount,
  parseInject,
  parseMemory,
  parseRtc,
  parseSeconds,
  parseSeed,
  parseSwitch,
} from "./options.js";

export const MODULE_PROFILES: readonly ModuleProfile[] = ["1.5", "1.0", "changelog"];
export const HOST_PROFILES: readonly HostProfile[] = ["fixed", "linux-6.16"];

/** The command line that Debian's guests get when none is given. */
export const DEFAULT_APPEND = "console=ttyS0 panic=-1";

/** What `run` takes, as commander hands it over: text where a value needs a parser. */
export interface RunOptions {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly memory: string;
  readonly vcpus: string;
  readonly moduleProfile: string;
  readonly hostProfile: string;
  readonly emca: string;
  readonly filter: string;
  readonly seed: string;
  readonly rtc: string;
  readonly maxInsns?: string;
  readonly timeout?: string;
  readonly inject?: readonly string[];
  readonly json?: string;
  readonly console?: string;
  readonly quiet?: boolean;
}

export const RUN_DEFAULTS = {
  memory: "512M",
  vcpus: "1",
  moduleProfile: "1.5",
  hostProfile: "fixed",
  emca: "on",
  filter: "on",
  seed: "0",
  rtc: "2025-02-11T00:00:00",
} as const satisfies RunOptions;

/** What to boot. */
export type GuestChoice =
  | { readonly kind: "debian"; readonly family: GuestFamily }
  | { readonly kind: "files"; readonly kernel: string; readonly initrd: string | undefined }
  | { readonly kind: "small-td"; readonly name: string };

/** A run that has been asked for in valid terms. */
export interface RunRequest {
  readonly guest: GuestChoice;
  readonly append: string;
  readonly memory: number;
  readonly vcpus: number;
  readonly moduleProfile: ModuleProfile;
  readonly hostProfile: HostProfile;
  readonly emca: boolean;
  readonly filter: boolean;
  readonly seed: bigint;
  readonly rtc: number;
  readonly maxInstructions: number | undefined;
  readonly timeoutSeconds: number | undefined;
  readonly injections: readonly InjectionSpec[];
  readonly json: string | undefined;
  readonly console: string | undefined;
  readonly quiet: boolean;
}

/** Longest command line of the boot protocol that Debian's kernels accept (setup_header.cmdline_size). */
const MAX_APPEND = 2047;

/** Checks everything that can be checked without a file or a machine. Throws a usage error for the first fault. */
export function parseRunRequest(
  guest: string | undefined,
  options: RunOptions,
  smallTds: readonly string[],
): RunRequest {
  const vcpus = parseCount("--vcpus", options.vcpus, 1, 1);
  const injections = (options.inject ?? []).map(parseInject);
  for (const { vcpu } of injections) {
    if (vcpu !== undefined && vcpu >= vcpus) {
      throw usageError(
        "BAD_INJECTION",
        `--inject names vcpu=${vcpu}, which this TD does not have`,
        "vCPUs count from 0",
      );
    }
  }
  if (injections.filter(({ when }) => when.kind === "rip").length > 1) {
    throw usageError("BAD_INJECTION", "more than one --inject waits for an address", "give one with rip=ADDRESS");
  }
  if (options.json === "-" && options.console === "-") {
    throw usageError("BAD_VALUE", "--json - and --console - both want stdout", "give one of them a file");
  }
  return {
    guest: parseGuest(guest, options, smallTds),
    append: parseAppend(options.append ?? DEFAULT_APPEND),
    memory: parseMemory(options.memory),
    vcpus,
    moduleProfile: parseChoice("--module-profile", options.moduleProfile, MODULE_PROFILES),
    hostProfile: parseChoice("--host-profile", options.hostProfile, HOST_PROFILES),
    emca: parseSwitch("--emca", options.emca),
    filter: parseSwitch("--filter", options.filter),
    seed: parseSeed(options.seed),
    rtc: parseRtc(options.rtc),
    maxInstructions: optional(options.maxInsns, (text) => parseCount("--max-insns", text, 1, Number.MAX_SAFE_INTEGER)),
    timeoutSeconds: optional(options.timeout, (text) => parseSeconds("--timeout", text)),
    injections,
    json: options.json,
    console: options.console === "-" ? undefined : options.console,
    quiet: options.quiet ?? false,
  };
}

function parseGuest(guest: string | undefined, options: RunOptions, smallTds: readonly string[]): GuestChoice {
  if (options.kernel !== undefined) {
    if (guest !== undefined) {
      throw usageError("TWO_GUESTS", `both the guest ${guest} and --kernel are given`, "give one of them");
    }
    return { kind: "files", kernel: options.kernel, initrd: options.initrd };
  }
  if (options.initrd !== undefined) {
    throw usageError("NO_KERNEL", "--initrd is given without --kernel", "give both, or a guest's name alone");
  }
  const names = [...GUEST_FAMILIES.map((family) => family.name), ...smallTds].join(", ");
  if (guest === undefined) {
    throw usageError("NO_GUEST", "there is nothing to run", `name a guest (${names}), or give --kernel FILE`);
  }
  const family = findFamily(guest);
  if (family !== undefined) return { kind: "debian", family };
  if (smallTds.includes(guest)) {
    if (options.append !== undefined) {
      throw usageError("NO_COMMAND_LINE", `the small TD ${guest} takes no --append`, "leave it out");
    }
    return { kind: "small-td", name: guest };
  }
  throw usageError("UNKNOWN_GUEST", `there is no guest named ${JSON.stringify(guest)}`, `known are ${names}`);
}

function parseAppend(text: string): string {
  if (new TextEncoder().encode(text).length > MAX_APPEND) {
    throw usageError("BAD_VALUE", "--append is too long", `a kernel takes at most ${MAX_APPEND} bytes`);
  }
  if (text.includes("\0")) throw usageError("BAD_VALUE", "--append has a zero byte in it", "leave it out");
  return text;
}

function optional<T>(text: string | undefined, parse: (text: string) => T): T | undefined {
  return text === undefined ? undefined : parse(text);
}
