import { describe, expect, it } from "vitest";
import { STATUS, UserError } from "./errors.js";
import { parseCount, parseMemory, parseRtc, parseSeconds, parseSeed, parseSwitch } from "./options.js";
import { parseRunRequest, RUN_DEFAULTS, type RunOptions } from "./run-request.js";

const SMALL = ["story"];

function refused(action: () => unknown): UserError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return error as UserError;
  }
  throw new Error("was not refused");
}

describe("sizes, numbers and times", () => {
  it.each([
    ["512M", 2 ** 29],
    ["1G", 2 ** 30],
    ["1.5G", 1.5 * 2 ** 30],
    ["128m", 2 ** 27],
    ["256MiB", 2 ** 28],
    ["3G", 3 * 2 ** 30],
    ["536870912", 2 ** 29],
    ["524288K", 2 ** 29],
  ])("--memory %s", (text, bytes) => {
    expect(parseMemory(text)).toBe(bytes);
  });

  it.each(["", "big", "-1M", "127M", "3.1G", "4G", "0", "512X", "1e9", "134217729", "1 000M"])(
    "--memory %s is refused",
    (text) => {
      expect(refused(() => parseMemory(text)).status).toBe(STATUS.usage);
    },
  );

  it("reads counts, and says what would fit", () => {
    expect(parseCount("--max-insns", "1_000", 1, Number.MAX_SAFE_INTEGER)).toBe(1000);
    expect(parseCount("--max-insns", "0x10", 1, 100)).toBe(16);
    expect(refused(() => parseCount("--vcpus", "2", 1, 1)).hint).toContain("only 1");
    for (const text of ["", "1.5", "-1", "1e3", "99999999999999999999"])
      refused(() => parseCount("--x", text, 0, 2 ** 53 - 1));
  });

  it("reads seconds", () => {
    expect(parseSeconds("--timeout", "2.5")).toBe(2.5);
    for (const text of ["0", "-1", "", "soon", "1e9"]) refused(() => parseSeconds("--timeout", text));
  });

  it("reads seeds", () => {
    expect(parseSeed("0xffffffffffffffff")).toBe(2n ** 64n - 1n);
    refused(() => parseSeed("0x10000000000000000"));
    refused(() => parseSeed("-1"));
  });

  it("reads times as UTC, whatever the machine's zone", () => {
    expect(parseRtc("1970-01-02")).toBe(86400);
    expect(parseRtc("1970-01-01T00:01")).toBe(60);
    expect(parseRtc("1970-01-01 00:00:05Z")).toBe(5);
    expect(parseRtc("1234")).toBe(1234);
    for (const text of ["", "yesterday", "2025-13-01", "2100-01-01", "2025-02-11T25:00:00"])
      refused(() => parseRtc(text));
  });

  it("reads switches", () => {
    expect(parseSwitch("--emca", "on")).toBe(true);
    expect(parseSwitch("--emca", "off")).toBe(false);
    expect(refused(() => parseSwitch("--emca", "yes")).message).toContain("--emca");
  });
});

describe("a run request", () => {
  const parse = (guest: string | undefined, options: Partial<RunOptions> = {}) =>
    parseRunRequest(guest, { ...RUN_DEFAULTS, ...options }, SMALL);

  it("has defaults for everything but the guest", () => {
    expect(parse("debian")).toMatchObject({
      guest: { kind: "debian", family: { name: "debian:6.12" } },
      append: "console=ttyS0 panic=-1",
      memory: 2 ** 29,
      vcpus: 1,
      moduleProfile: "1.5",
      hostProfile: "fixed",
      emca: true,
      filter: true,
      seed: 0n,
      injections: [],
    });
  });

  it("takes a kernel in place of a guest", () => {
    expect(parse(undefined, { kernel: "k", initrd: "i" }).guest).toEqual({ kind: "files", kernel: "k", initrd: "i" });
    expect(parse("story").guest).toEqual({ kind: "small-td", name: "story" });
  });

  it.each<[string, string | undefined, Partial<RunOptions>]>([
    ["NO_GUEST", undefined, {}],
    ["UNKNOWN_GUEST", "windows", {}],
    ["TWO_GUESTS", "debian", { kernel: "k" }],
    ["NO_KERNEL", "debian", { initrd: "i" }],
    ["NO_COMMAND_LINE", "story", { append: "x" }],
    ["BAD_VALUE", "debian", { append: "x".repeat(2048) }],
    ["BAD_VALUE", "debian", { moduleProfile: "2.0" }],
    ["BAD_VALUE", "debian", { hostProfile: "bsd" }],
    ["BAD_VALUE", "debian", { vcpus: "2" }],
    ["BAD_VALUE", "debian", { json: "-", console: "-" }],
    ["BAD_INJECTION", "debian", { inject: ["smi@insn=1,vcpu=1"] }],
    ["BAD_INJECTION", "debian", { inject: ["smi@insn=1", "smi"] }],
    ["BAD_INJECTION", "debian", { inject: ["smi@rip=0x1000", "nmi@rip=0x2000"] }],
  ])("%s", (code, guest, options) => {
    const error = refused(() => parse(guest, options));
    expect(error.code).toBe(code);
    expect(error.status).toBe(STATUS.usage);
    expect(error.hint).not.toBe("");
  });
});
