import type { SmallTd } from "../small-td.js";
import { buildImage } from "./build.js";
import { assembleGuest, type GuestCode } from "./guest-code.js";

const MIB = 1 << 20;

/** A small TD by its source; what is left out is one vCPU, 1 MiB of accepted RAM, and an end by power-off. */
export interface SmallTdSource extends Partial<Pick<SmallTd, "vcpus" | "memory" | "outcome">> {
  readonly name: string;
  readonly summary: string;
  readonly console: string;
  /** Bytes of RAM that the runtime accepts; default: all. */
  readonly accepted?: number;
  main(code: GuestCode): void;
  /** What vCPUs other than the first do before they sleep. */
  others?(code: GuestCode): void;
}

export function defineSmallTd(source: SmallTdSource): SmallTd {
  const { name, summary, vcpus = 1, memory = MIB, accepted = memory } = source;
  return {
    name,
    summary,
    // Only tests want it, and computing it takes a while.
    get console() {
      return source.console;
    },
    vcpus,
    memory,
    outcome: "outcome" in source ? source.outcome : "power-off",
    build: () =>
      buildImage(
        assembleGuest((code) => source.main(code), source.others && ((code) => source.others?.(code))),
        { ram: memory, accepted },
      ),
  };
}
