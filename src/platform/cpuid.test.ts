import { describe, expect, it } from "vitest";
import { CPUID_REQUIRED } from "../arch/tdx-cpuid.js";
import { nativeCpuid } from "./cpuid.js";

const TOPOLOGY = { x2apicId: 5, logicalProcessors: 8, packages: 2 };
const cpuid = (leaf: number, subleaf = 0) => nativeCpuid(leaf, subleaf, TOPOLOGY);
const text = (...registers: number[]): string =>
  new TextDecoder().decode(new Uint8Array(Uint32Array.from(registers).buffer)).replaceAll("\0", "");

describe("native CPUID", () => {
  it("is Intel's, with the leaves that the module needs", () => {
    const [max, ebx, ecx, edx] = cpuid(0);
    expect(text(ebx, edx, ecx)).toBe("GenuineIntel");
    expect(max).toBeGreaterThanOrEqual(0x1f);
    expect(cpuid(0x80000000)[0]).toBe(0x80000008);
    expect(text(...cpuid(0x80000002), ...cpuid(0x80000003), ...cpuid(0x80000004))).toBe(
      "Seamless virtual TDX processor",
    );
  });

  /** leaf, subleaf, register, bits that must be 1 (tdx-module facts 7.5, td-guest-boot facts 4.5). */
  const required = [
    [1, 0, 2, 0x47faa217],
    [1, 0, 3, 0x1fa9fbff],
    [7, 0, 1, 0x219424c3],
    [7, 0, 2, 0x19000000],
    [7, 0, 3, 0xfc000400],
    [7, 2, 3, 0x17],
    [0xd, 1, 0, 0xf],
    [0x80000001, 0, 2, 0x121],
    [0x80000001, 0, 3, 0x2c100800],
    [0x80000007, 0, 3, 0x100],
    [0x80000008, 0, 1, 0x200],
  ] as const;
  it.each(required)("leaf %i.%i register %i has its required bits", (leaf, subleaf, register, bits) => {
    expect((cpuid(leaf, subleaf)[register] & bits) >>> 0).toBe(bits);
  });

  it.each(CPUID_REQUIRED)("passes the module's check of leaf %i.%i", (leaf, subleaf, mask, value) => {
    expect(cpuid(leaf, subleaf).map((register, i) => (register & (mask[i] as number)) >>> 0)).toEqual([...value]);
  });

  it("has the required values", () => {
    expect(cpuid(7)[0]).toBe(2);
    expect(cpuid(4, 3)[3] & 1).toBe(0);
    expect(cpuid(0x80000008)[0] & 0xff).toBe(52);
    expect(cpuid(0x80000006)[2] & 0xff).toBe(64);
    expect(cpuid(0x14)[0]).toBe(1);
  });

  it("has no AVX and nothing above: XCR0 is x87 and SSE", () => {
    expect(cpuid(1)[2] & ((1 << 12) | (1 << 28) | (1 << 29))).toBe(0);
    expect(cpuid(7)[1] & ((1 << 3) | (1 << 5) | (1 << 8) | (1 << 16))).toBe(0);
    expect(cpuid(0xd)).toEqual([3, 576, 576, 0]);
  });

  it("names the processor", () => {
    expect(cpuid(1)[1] >>> 24).toBe(5);
    expect((cpuid(1)[1] >>> 16) & 0xff).toBe(4);
    expect(cpuid(0xb, 0)).toEqual([0, 1, 0x100, 5]);
    expect(cpuid(0x1f, 1)).toEqual([2, 4, 0x201, 5]);
    expect(cpuid(0xb, 2)).toEqual([0, 0, 2, 5]);
  });

  it("answers unknown leaves with zeros, or as the last basic leaf", () => {
    expect(cpuid(0x12)).toEqual([0, 0, 0, 0]);
    expect(cpuid(0x7777)).toEqual(cpuid(0x23));
    expect(cpuid(0x80000099)).toEqual(cpuid(0x23));
  });

  it("runs the TSC at 1 GHz", () => {
    const [denominator, numerator, crystal] = cpuid(0x15);
    expect((crystal * numerator) / denominator).toBe(1e9);
  });
});
