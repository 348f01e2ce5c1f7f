import { exitCountName } from "../arch/linux-vmx-reasons.js";
import type { EventBus } from "../platform/event-bus.js";

/** KVM's reason when a status means none to it (-1 as unsigned 32 bits). */
const NO_REASON = 0xffff_ffff;

/** Name of a 32-bit exit reason; the flags above the basic reason do not make another one. */
function exitName(reason: number): string {
  return exitCountName(reason === NO_REASON ? reason : reason & 0xffff);
}

/** Counts what the outcome reports, from the machine's events. */
export class Tally {
  readonly exits: Record<string, number> = {};
  smmEntries = 0;
  machineChecks = 0;
  readonly #stops: readonly (() => void)[];

  constructor(events: EventBus) {
    this.#stops = [
      events.on("kvm-exit", ({ fields }) => {
        const name = exitName(Number(fields.reason));
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
