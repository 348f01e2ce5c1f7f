import { describe, expect, it } from "vitest";
import { TdMachine } from "../vmm/machine.js";
import { powerOn } from "../vmm/system.js";
import type { SmallTd } from "./small-td.js";
import { findSmallTd, SMALL_TDS } from "./small-tds.js";

interface Run {
  readonly machine: TdMachine;
  readonly text: string;
}

const MIB = 1 << 20;
/** One computer for all, as users have one: what a TD leaves behind would be seen by the next. */
const system = powerOn({ guestMemory: 4 * MIB, imageBytes: MIB, vcpus: 2 });

/** Runs a small TD to its end, or until it waits for something that cannot come. */
function run(td: SmallTd, input: string): Run {
  const machine = new TdMachine(system, { image: td.build(), vcpus: td.vcpus, rtc: 0 });
  let text = "";
  machine.onConsole((bytes) => {
    text += String.fromCharCode(...bytes);
  });
  const bytes = [...input].map((character) => character.charCodeAt(0));
  for (let slice = 0; slice < 500; slice++) {
    const step = machine.step(1_000_000);
    if (step.kind === "ended") break;
    if (step.kind !== "idle") continue;
    const byte = machine.wantsInput ? bytes.shift() : undefined;
    if (byte !== undefined) machine.feed(byte);
    else if (!system.platform.clock.skipToNext()) break;
  }
  return { machine, text };
}

describe.each(SMALL_TDS.map((td) => [td.name, td] as const))("small TD %s", (_name, td) => {
  it("writes what it should, ends as it should, and gives all its pages back", () => {
    const { machine, text } = run(td, "");
    expect({ text, outcome: machine.end?.outcome }, machine.end?.message).toEqual({
      text: td.console,
      outcome: td.outcome,
    });
    const { private: pages, returned, leaked, withheld } = machine.td.vm.destroy();
    expect({ returned, leaked, withheld }).toEqual({ returned: pages, leaked: 0, withheld: [] });
  });
});

describe("input", () => {
  it("wakes a sleeping guest through the serial port's interrupt", () => {
    const { machine, text } = run(findSmallTd("echo") as SmallTd, "hi!q");
    machine.td.vm.destroy();
    expect(text).toBe("type, q ends\nhi!q\n");
    expect(machine.end?.outcome).toBe("power-off");
  });
});

describe("a guest's report", () => {
  it("is told with its code and text", () => {
    const { machine } = run(findSmallTd("fatal-error") as SmallTd, "");
    machine.td.vm.destroy();
    expect(machine.end?.message).toBe('the guest reported a fatal error, code 42: "this guest has given up"');
  });
});
