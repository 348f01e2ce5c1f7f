import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TDG, TDH } from "../arch/tdx-abi.js";
import { TD_FIELD, VP_FIELD } from "../arch/tdx-metadata.js";
import { GPR } from "../platform/seam.js";
import { type GuestStep, TestHost } from "./testing.js";

/** Whatever host and guest pass in, a call ends with a status; nothing else is thrown, and no sentinel escapes. */

const INTERRUPT: GuestStep = { reason: 1, interruptionInfo: 0x800000f2 };
/** Exits that end the vCPU or the TD, or that no processor makes (49: not of private memory). */
const ENDS = new Set([2, 6, 49, 75]);
const UNINITIALISED = (1n << 64n) - 1n;

const numbers = (pool: readonly (number | bigint)[]): fc.Arbitrary<bigint> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...pool.map(BigInt)) },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom(...pool.map(BigInt)), fc.bigInt(0n, 63n)).map(([v, bit]) => v ^ (1n << bit)),
    },
    { weight: 1, arbitrary: fc.bigInt(0n, UNINITIALISED) },
  );

describe("any operands", () => {
  it("SEAMCALL", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd({}, 2);
    const building = host.createTd();
    building.addVcpu();
    const pool = [
      0,
      1,
      0x1000,
      0x1001,
      0x2000,
      0x20_0001,
      0x4000_0002,
      0x3000,
      0x8000,
      td.tdr,
      building.tdr,
      ...td.vcpus,
      ...building.vcpus,
      ...td.tdcx,
      ...td.tables,
      host.page(),
      host.page(),
      host.largePage(),
      2 ** 47,
      40,
      41,
      0x203c,
      0x4000,
      0x2016,
      ...Object.values(TD_FIELD),
      ...Object.values(VP_FIELD),
    ];
    // Teardown is left out: it would end the state that makes the other leaves interesting.
    const leaves = Object.values(TDH).filter((leaf) => leaf !== TDH.MNG_VPFLUSHDONE && leaf !== TDH.VP_ENTER);
    const register = numbers(pool);
    fc.assert(
      fc.property(
        fc.constantFrom(...leaves),
        fc.constantFrom(0, 0, 0, 1),
        register,
        register,
        register,
        register,
        (leaf, version, rcx, rdx, r8, r9) => {
          const { status } = host.seamcall(leaf, { RCX: rcx, RDX: rdx, R8: r8, R9: r9 }, version);
          expect(status).not.toBe(UNINITIALISED);
        },
      ),
      { numRuns: 4000, seed: 1 },
    );
  });

  it("TDCALL and VM exits", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd({ attributes: 1n });
    td.augPage(0x2000);
    td.augPage(0x3000);
    const register = numbers([
      0,
      1,
      2,
      0x1000,
      0x1400,
      0x2000,
      0x3000,
      0x20_0001,
      2 ** 47 + 0x1000,
      0xffcc,
      ...Object.values(TD_FIELD),
      ...Object.values(VP_FIELD),
    ]);
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.values(TDG)),
        fc.constantFrom(0, 0, 1),
        register,
        register,
        register,
        register,
        (leaf, version, rcx, rdx, r8, r9) => {
          const { exit } = td.tdcall(BigInt(leaf | (version << 16)), { RCX: rcx, RDX: rdx, R8: r8, R9: r9 });
          expect(exit.gprs[GPR.RAX]).not.toBe(UNINITIALISED);
        },
      ),
      { numRuns: 1500, seed: 2 },
    );
    fc.assert(
      fc.property(
        fc.nat(80),
        register,
        fc.nat(0xffff_ffff),
        register,
        register,
        (reason, qualification, gpa, rax, rcx) => {
          if (ENDS.has(reason)) return;
          const { status } = td.enter([
            ({ guest: { state } }) => {
              state.setGpr(GPR.RAX, rax);
              state.setGpr(GPR.RCX, rcx);
              return { reason, qualification, guestPhysicalAddress: gpa, instructionLength: 3 };
            },
            INTERRUPT,
          ]);
          expect(status).not.toBe(UNINITIALISED);
        },
      ),
      { numRuns: 1500, seed: 3 },
    );
  });
});
