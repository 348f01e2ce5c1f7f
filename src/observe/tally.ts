import { exitCountName } from "../arch/linux-vmx-reasons.js";
import type { EventBus } from "../platform/event-bus.js";

/** Counts what the outcome reports, from the machine's events. */
export class Tally {
  readonly exits: Record<string, number> = {};
  smmEntries = 0;
  machineChecks = 0;
  readonly #stops: readonly (() => void)[];

  constructor(events: EventBus) {
    this.#stops = [
      events.on("kvm-exit", ({ fields }) => {
        const name = exitCountName(Number(fields.reason));
        this.exits[name] = (this.exits[name] ?? 0) + 1;
      }),
      events.on("smm-enter", () => {
        this.smmEntries++;
      }),
      events.on("machine-check", () => {
        this.machineChecks++;
      }),
    ];
  }

  dispose(): void {
    for (const stop of this.#stops) stop();
  }
}
