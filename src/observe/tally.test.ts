import { describe, expect, it } from "vitest";
import { EventBus } from "../platform/event-bus.js";
import { Tally } from "./tally.js";

describe("the tally", () => {
  it("counts exits by name, SMM entries and machine checks, until it is disposed of", () => {
    const events = new EventBus({ insn: 0, clock: 0 });
    const tally = new Tally(events);
    for (const reason of [6, 6, 12, 0x8000_0021, 0xffff_ffff]) events.emit("kvm", "kvm-exit", 0, 0, { reason });
    events.emit("smm", "smm-enter", 0, null);
    events.emit("mce", "machine-check", 0, null);
    tally.dispose();
    events.emit("smm", "smm-enter", 0, null);
    expect(tally).toMatchObject({
      exits: { OTHER_SMI: 2, HLT: 1, INVALID_STATE: 1, "0xffffffff": 1 },
      smmEntries: 1,
      machineChecks: 1,
    });
  });
});
