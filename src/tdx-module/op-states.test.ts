import { describe, expect, it } from "vitest";
import { TDH, type TdhName } from "../arch/tdx-abi.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { ALLOWED_OP_STATES } from "./op-states.js";
import { TDCS } from "./structures/tdcs.js";
import { type Registers, TestHost } from "./testing.js";

const STATES = 11;

describe("operation states", () => {
  const host = new TestHost().bringUp();
  const td = host.runnableTd();
  const opState = (td.tdcx[0] as number) + TDCS.OP_STATE.offset;

  /** Operands that get a leaf as far as the check; beyond it they may fail in any other way. */
  const operands = (name: string): Registers => {
    const tdvpr = td.vcpus[0] as number;
    if (name === "VP_ADDCX" || name === "VP_CREATE" || name === "MNG_ADDCX") {
      return { RCX: host.page(), RDX: name === "VP_ADDCX" ? tdvpr : td.tdr };
    }
    if (name.startsWith("VP_")) return { RCX: tdvpr };
    const first = name.startsWith("MNG_") || name === "MR_FINALIZE" || name === "MEM_TRACK";
    return first ? { RCX: td.tdr, RDX: 1 } : { RCX: 0x1000, RDX: td.tdr };
  };

  it.each(Object.entries(ALLOWED_OP_STATES))("%s runs in the states of the matrix only", (name, allowed) => {
    for (let state = 0; state < STATES; state++) {
      // Entering would run a guest, and these would change the TD for the cases that follow.
      const runs = ((allowed >>> state) & 1) !== 0;
      if (runs && ["VP_ENTER", "MNG_INIT", "MNG_ADDCX", "MR_FINALIZE"].includes(name)) continue;
      host.memory.write32(opState, state, td.hkid);
      const { code } = host.seamcall(TDH[name as TdhName], operands(name));
      expect(code === TDX_STATUS.OP_STATE_INCORRECT, `${name} in state ${state}`).toBe(!runs);
    }
  });
});
