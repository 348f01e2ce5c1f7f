/** A timer that was set; good for `cancel`. */
export interface TimerHandle {
  readonly deadlineNs: number;
}

interface Timer extends TimerHandle {
  /** Order of arming: timers with the same deadline go off in it. */
  readonly order: number;
  readonly callback: () => void;
}

const before = (a: Timer, b: Timer): boolean =>
  a.deadlineNs < b.deadlineNs || (a.deadlineNs === b.deadlineNs && a.order < b.order);

/**
 * The machine's only time, in ns since it was switched on. It moves by executed guest instructions and, when nobody runs,
 * by skipping to the next deadline. Timers go off by deadline, then by order of arming.
 */
export class Clock {
  /** Now, in ns. */
  now = 0;
  #order = 0;
  /** Sorted, the next one last. */
  readonly #timers: Timer[] = [];

  setTimer(deadlineNs: number, callback: () => void): TimerHandle {
    if (Number.isNaN(deadlineNs)) throw new RangeError("a timer needs a deadline");
    const timer: Timer = { deadlineNs, order: this.#order++, callback };
    let at = this.#timers.length;
    while (at > 0 && before(this.#timers[at - 1] as Timer, timer)) at--;
    this.#timers.splice(at, 0, timer);
    return timer;
  }

  /** Takes back a timer; one that has gone off, or was cancelled, is left alone. */
  cancel(handle: TimerHandle): void {
    const at = this.#timers.indexOf(handle as Timer);
    if (at >= 0) this.#timers.splice(at, 1);
  }

  /** Deadline of the next timer in ns; Infinity if none is set. */
  nextDeadline(): number {
    return this.#timers[this.#timers.length - 1]?.deadlineNs ?? Number.POSITIVE_INFINITY;
  }

  /** Time passes because instructions were executed. Timers that fall due wait for `runDue`. */
  advance(ns: number): void {
    this.now += ns;
  }

  /** Lets every timer go off whose deadline has come, those set meanwhile included. */
  runDue(): void {
    while (this.nextDeadline() <= this.now) (this.#timers.pop() as Timer).callback();
  }

  /** Nobody runs: jumps to the next deadline and lets it go off. False if no timer is set. */
  skipToNext(): boolean {
    const deadline = this.nextDeadline();
    if (deadline === Number.POSITIVE_INFINITY) return false;
    this.now = Math.max(this.now, deadline);
    this.runDue();
    return true;
  }
}
