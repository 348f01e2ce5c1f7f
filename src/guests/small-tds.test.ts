import { describe, expect, it } from "vitest";
import { TdMachine } from "../vmm/machine.js";
import { powerOn } from "../vmm/system.js";
import { SMALL_TDS } from "./small-tds.js";

describe.each(SMALL_TDS.map((td) => [td.name, td] as const))("small TD %s", (_name, td) => {
  it("writes what it should and ends as it should", () => {
    const system = powerOn({ guestMemory: td.memory, imageBytes: 1 << 20, vcpus: td.vcpus });
    const machine = new TdMachine(system, { image: td.build(), vcpus: td.vcpus, rtc: 0 });
    let text = "";
    machine.onConsole((bytes) => {
      text += String.fromCharCode(...bytes);
    });
    for (let slice = 0; slice < 100 && !machine.end; slice++) machine.step(1_000_000);
    expect(text).toBe(td.console);
    expect(machine.end?.outcome).toBe(td.outcome);
  });
});
