interface Appointment {
  readonly retired: number;
  readonly order: number;
  readonly action: () => void;
}

/**
 * Work at exact instruction boundaries. Guest execution stops before the instruction that follows the `retired`-th (summed over
 * vCPUs), in SEAM non-root, and the action runs there; events that it raises are pending on that boundary. An action that
 * throws ends the run there: the SEAMCALL under way is abandoned, and the host can go on to tear the TD down.
 */
export class Boundaries {
  #order = 0;
  /** Sorted, the next one last. */
  readonly #appointments: Appointment[] = [];

  /** Schedules an action. A boundary that has passed comes at the next stop. Returns the way to take it back. */
  at(retired: number, action: () => void): () => void {
    const appointment: Appointment = { retired, order: this.#order++, action };
    let at = this.#appointments.length;
    while (at > 0 && (this.#appointments[at - 1] as Appointment).retired <= retired) at--;
    this.#appointments.splice(at, 0, appointment);
    return () => {
      const index = this.#appointments.indexOf(appointment);
      if (index >= 0) this.#appointments.splice(index, 1);
    };
  }

  /** Retired count of the next boundary; Infinity if none is wanted. */
  next(): number {
    return this.#appointments[this.#appointments.length - 1]?.retired ?? Number.POSITIVE_INFINITY;
  }

  /** Runs every action whose boundary has come. An action that throws has been taken off. */
  runDue(retired: number): void {
    while (this.next() <= retired) (this.#appointments.pop() as Appointment).action();
  }
}
