import { type System, TdMachine } from "../vmm/machine.js";
import type { SmallTd } from "./small-td.js";

/** A small TD on its way. */
export interface Started {
  readonly machine: TdMachine;
  /** What it has written so far. */
  readonly text: () => string;
}

export function start(system: System, td: SmallTd): Started {
  const machine = new TdMachine(system, { image: td.build(), vcpus: td.vcpus, rtc: 0 });
  let text = "";
  machine.onConsole((bytes) => {
    text += String.fromCharCode(...bytes);
  });
  return { machine, text: () => text };
}

/** Runs it to its end, or until it waits for something that cannot come. */
export function runToEnd({ platform: { clock } }: System, { machine }: Started, input = ""): void {
  const bytes = Array.from(input, (character) => character.charCodeAt(0));
  for (;;) {
    const step = machine.step(1_000_000);
    if (step.kind === "ended") return;
    if (step.kind !== "idle") continue;
    const byte = machine.wantsInput ? bytes.shift() : undefined;
    if (byte !== undefined) machine.feed(byte);
    else if (!clock.skipToNext()) return;
  }
}
