import { describe, expect, it } from "vitest";
import { powerOn } from "../vmm/system.js";
import type { SmallTd } from "./small-td.js";
import { findSmallTd, SMALL_TDS } from "./small-tds.js";
import { runToEnd, type Started, start } from "./testing.js";

const MIB = 1 << 20;
/** One computer for all, as users have one: what a TD leaves behind would be seen by the next. */
const system = powerOn({ guestMemory: 4 * MIB, imageBytes: MIB, vcpus: 2 });

function run(td: SmallTd, input = ""): Started {
  const started = start(system, td);
  runToEnd(system, started, input);
  return started;
}

describe("a small TD writes what it should, ends as it should, and gives all its pages back", () => {
  it.each(SMALL_TDS.map((td) => [td.name, td] as const))("%s", (_name, td) => {
    const { machine, text } = run(td);
    const { end } = machine;
    expect({ text: text(), outcome: end?.outcome }, end?.message).toEqual({ text: td.console, outcome: td.outcome });
    const { private: pages, returned, leaked, withheld } = machine.teardown();
    expect({ returned, leaked, withheld }).toEqual({ returned: pages, leaked: 0, withheld: [] });
  });
});

describe("input", () => {
  it("wakes a sleeping guest through the serial port's interrupt", () => {
    const { machine, text } = run(findSmallTd("echo") as SmallTd, "hi!q");
    machine.teardown();
    expect(text()).toBe("type, q ends\nhi!q\n");
    expect(machine.end?.outcome).toBe("power-off");
  });
});

describe("a guest's report", () => {
  it("is told with its code and text", () => {
    const { machine } = run(findSmallTd("fatal-error") as SmallTd);
    machine.teardown();
    expect(machine.end?.message).toBe('the guest reported a fatal error, code 42: "this guest has given up"');
  });
});
