import { expect, it } from "vitest";
import { keyIdLayout, memoryMap, PlatformConfigError, resolveConfig } from "./config.js";

const MIB = 0x100000;

it("fills in the defaults; CSMI follows eMCA", () => {
  expect(resolveConfig({ hostMemoryBytes: 64 * MIB })).toMatchObject({
    logicalProcessors: 1,
    seed: 0n,
    emca: true,
    csmi: true,
  });
  expect(resolveConfig({ hostMemoryBytes: 64 * MIB, emca: false }).csmi).toBe(false);
});

it.each([
  { hostMemoryBytes: 0 },
  { hostMemoryBytes: MIB + 4096 },
  { hostMemoryBytes: 64 * MIB, packages: 0 },
  { hostMemoryBytes: 64 * MIB, logicalProcessors: 3, packages: 2 },
  { hostMemoryBytes: 64 * MIB, logicalProcessors: 256 },
  { hostMemoryBytes: 64 * MIB, keyIdBits: 16 },
  { hostMemoryBytes: 64 * MIB, keyIdBits: 4, tdxReservedKeyIdBits: 4 },
])("refuses %o", (config) => {
  expect(() => resolveConfig(config)).toThrow(PlatformConfigError);
});

it("puts SMRAM at the top, a power of two and aligned", () => {
  const map = memoryMap(resolveConfig({ hostMemoryBytes: 64 * MIB }));
  expect(map).toEqual({ smram: { base: 63 * MIB, size: MIB }, cmrs: [{ base: 0, size: 63 * MIB }] });
  const many = memoryMap(resolveConfig({ hostMemoryBytes: 67 * MIB, logicalProcessors: 100 }));
  expect(many.smram).toEqual({ base: 56 * MIB, size: 8 * MIB });
  expect(many.cmrs).toEqual([
    { base: 0, size: 56 * MIB },
    { base: 64 * MIB, size: 3 * MIB },
  ]);
  expect(() => memoryMap(resolveConfig({ hostMemoryBytes: MIB }))).toThrow(PlatformConfigError);
});

it("divides KeyIDs as the MKTME registers say", () => {
  expect(keyIdLayout(resolveConfig({ hostMemoryBytes: 64 * MIB }))).toEqual({
    keyIdCount: 64,
    firstPrivateKeyId: 32,
    keyIdShift: 46,
  });
});
