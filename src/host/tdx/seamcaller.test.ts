import { describe, expect, it } from "vitest";
import { GPR } from "../../platform/seam.js";
import type { HardwareLp, SeamcallOutcome } from "../hardware.js";
import { Seamcaller } from "./seamcaller.js";
import { linuxStatusName, seamcallErrorText } from "./status-name.js";

type Answer = (regs: BigUint64Array) => SeamcallOutcome;
const processor = (seamcall: Answer): HardwareLp => ({ id: 0, package: 0, seamcall }) as unknown as HardwareLp;
const NO_ENTROPY = 0x8000_0203_0000_0000n;

describe("a SEAMCALL of the host", () => {
  it("puts leaf and version into RAX, and addresses whole into their registers", () => {
    const seen: bigint[] = [];
    const seam = new Seamcaller(
      processor((regs) => {
        seen.push(...regs);
        regs.fill(0n);
        return "ok";
      }),
    );
    const address = 2 ** 51 + 0x1_2345_6000;
    expect(seam.begin().set(GPR.RCX, address).setWide(GPR.R8, 0xffff_ffff_ffff_ffffn).call(22, 1)).toBe(0n);
    expect([seen[GPR.RAX], seen[GPR.RCX], seen[GPR.R8]]).toEqual([0x10016n, BigInt(address), 0xffff_ffff_ffff_ffffn]);
  });

  it("is tried ten times with the same inputs while there is no entropy", () => {
    const inputs: bigint[] = [];
    const seam = new Seamcaller(
      processor((regs) => {
        inputs.push(regs[GPR.RCX] ?? 0n);
        regs[GPR.RCX] = 99n;
        regs[GPR.RAX] = NO_ENTROPY;
        return "ok";
      }),
    );
    expect(seam.begin().set(GPR.RCX, 5).call(9)).toBe(NO_ENTROPY);
    expect(inputs).toEqual(Array(10).fill(5n));
  });

  it("is tried for exactly that status only", () => {
    let calls = 0;
    const seam = new Seamcaller(
      processor((regs) => {
        calls++;
        regs[GPR.RAX] = NO_ENTROPY | 1n;
        return "ok";
      }),
    );
    expect(seam.begin().call(9)).toBe(NO_ENTROPY | 1n);
    expect(calls).toBe(1);
  });

  it.each([
    ["vmfailinvalid", 0x8000ff00ffff0000n],
    ["gp", 0x8000ff000000000dn],
    ["ud", 0x8000ff0000000006n],
  ] as const)("that fails as an instruction (%s) gets Linux's own status", (outcome, status) => {
    expect(new Seamcaller(processor(() => outcome)).begin().call(0)).toBe(status);
  });
});

it("statuses print with Linux's names", () => {
  expect(linuxStatusName(0x8000_0200_0000_0092n)).toBe("TDX_OPERAND_BUSY");
  expect(linuxStatusName(0x8000ff00ffff0000n)).toBe("TDX_SEAMCALL_VMFAILINVALID");
  expect(linuxStatusName(0xe000_0604_0000_0000n)).toBeNull();
  expect(seamcallErrorText("TDH.MR.FINALIZE", 0xc000_0609_0000_0000n)).toBe(
    "SEAMCALL TDH.MR.FINALIZE failed: 0xc000060900000000",
  );
});
