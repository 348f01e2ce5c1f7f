import type { MachineCheckProcessor } from "./processor.js";

/**
 * The meeting of all processors in a broadcast #MC (smi-mca facts 3.3). The host runs on one thread, so that nobody waits:
 * each processor handles its own banks when its #MC is delivered, and the meeting ends with the last one. A processor that
 * cannot come, or that is struck again before all have come, shows what the kernel finds by its time limit.
 */
export class Rendezvous {
  readonly #arrived = new Set<number>();

  constructor(
    private readonly processors: readonly MachineCheckProcessor[],
    /** False for a processor that will never take the #MC, such as one that is shut down. */
    private readonly canArrive: (lp: MachineCheckProcessor) => boolean,
  ) {}

  /** A processor arrives. Returns the ids of those for whom the kernel would wait in vain. */
  arrive(lp: MachineCheckProcessor): readonly number[] {
    if (this.#arrived.has(lp.id)) return this.#missing(() => true);
    this.#arrived.add(lp.id);
    const holdouts = this.#missing((other) => !this.canArrive(other));
    if (this.#missing(() => true).length === 0) this.#arrived.clear();
    return holdouts;
  }

  /** Ids of the processors that have arrived in a meeting that goes on; empty when there is none. */
  get arrived(): readonly number[] {
    return [...this.#arrived];
  }

  restore(arrived: readonly number[]): void {
    this.#arrived.clear();
    for (const id of arrived) this.#arrived.add(id);
  }

  #missing(counts: (lp: MachineCheckProcessor) => boolean): number[] {
    return this.processors.filter((lp) => !this.#arrived.has(lp.id) && counts(lp)).map((lp) => lp.id);
  }
}
