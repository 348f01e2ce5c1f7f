import { describe, expect, it } from "vitest";
import { powerOn } from "../vmm/system.js";
import { compute } from "./behaviours/compute.js";
import { story } from "./behaviours/story.js";
import { runToEnd, start } from "./testing.js";

const MIB = 1 << 20;
const newSystem = (filter: boolean) => powerOn({ guestMemory: 4 * MIB, imageBytes: MIB, filter });

/** Runs `compute` on a new computer, struck by an SMI after every `every` instructions. */
function computeUnderSmis(every: number, filter: boolean) {
  const system = newSystem(filter);
  const { platform } = system;
  const started = start(system, compute);
  const lp = platform.lps[0];
  const strike = (at: number) => {
    platform.boundaries.at(at, () => {
      lp?.raise("smi");
      strike(at + every);
    });
  };
  if (every > 0) strike(every);
  runToEnd(system, started);
  const { exitCounts } = started.machine.td.vm;
  started.machine.teardown();
  return {
    text: started.text(),
    retired: platform.core.retired,
    smis: platform.smmEntries,
    otherSmi: exitCounts.OTHER_SMI ?? 0,
    outcome: started.machine.end?.outcome,
  };
}

describe("plain SMIs", () => {
  it("change nothing that the guest does", () => {
    const quiet = computeUnderSmis(0, false);
    const struck = computeUnderSmis(5000, false);
    expect(struck.smis).toBeGreaterThan(300);
    expect(struck).toEqual({ ...quiet, smis: struck.smis, otherSmi: struck.otherSmi });
    expect(quiet).toMatchObject({ text: compute.console, smis: 0, otherSmi: 0, outcome: "power-off" });
  });

  it("change nothing with the module's filter on", () => {
    expect(computeUnderSmis(5000, true)).toMatchObject({ text: compute.console, outcome: "power-off" });
  });
});

describe("two runs", () => {
  it("are the same, instruction for instruction", () => {
    expect(computeUnderSmis(7001, true)).toEqual(computeUnderSmis(7001, true));
  });
});

describe("a memory error", () => {
  it("in a line that the guest loads kills the TD, and its page is withheld", () => {
    const system = newSystem(true);
    const { platform } = system;
    const started = start(system, story);
    let struck = 0;
    platform.boundaries.at(2_000_000, () => {
      platform.watchLoad((_gpa, hpa) => {
        struck = hpa - (hpa % 4096);
        platform.memory.poisonLine(hpa);
      });
    });
    runToEnd(system, started);
    const { machine } = started;
    expect(machine.end?.outcome).toBe("td-fatal");
    expect(machine.end?.kvmExit).toMatchObject({ name: "KVM_EXIT_INTERNAL_ERROR", suberror: 4 });
    expect(machine.end?.kvmExit?.data?.[0]).toBe(0x6000_0005_0000_0006n);
    const { private: pages, returned, withheld, leaked } = machine.teardown();
    expect({ returned, withheld, leaked }).toEqual({ returned: pages - 1, withheld: [struck], leaked: 0 });
  });
});

describe("a pause", () => {
  it("stops at the very boundary and leaves a TD that can be torn down", () => {
    const system = newSystem(true);
    const { machine } = start(system, compute);
    const { platform } = system;
    platform.boundaries.at(123_456, () => machine.pause());
    expect(machine.step(1_000_000)).toEqual({ kind: "budget" });
    expect(platform.core.retired).toBe(123_456);
    const { private: pages, returned } = machine.teardown();
    expect(returned).toBe(pages);
  });
});
