import type { Clock, TimerHandle } from "../platform/clock.js";
import type { HardwareLp } from "./hardware.js";

/** Vector of the local APIC timer on a Linux host (LOCAL_TIMER_VECTOR). */
export const LOCAL_TIMER_VECTOR = 0xec;

/** A timer of the host kernel that runs in the timer interrupt of its processor. */
export class HrTimer {
  /** When it fires, in ns of the clock; Infinity: not armed. */
  deadline = Number.POSITIVE_INFINITY;

  constructor(
    readonly queue: HrTimerQueue,
    readonly callback: () => void,
  ) {}

  get armed(): boolean {
    return this.deadline !== Number.POSITIVE_INFINITY;
  }

  start(deadlineNs: number): void {
    this.queue.start(this, deadlineNs);
  }

  cancel(): void {
    this.queue.cancel(this);
  }
}

/**
 * The timers of one logical processor. The earliest deadline is programmed into the clock, which raises the timer interrupt
 * there; its handler runs what is due, by deadline and then by the order of arming.
 */
export class HrTimerQueue {
  readonly #armed: HrTimer[] = [];
  #programmed: TimerHandle | null = null;
  #programmedFor = Number.POSITIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    private readonly lp: HardwareLp,
  ) {}

  start(timer: HrTimer, deadlineNs: number): void {
    this.#remove(timer);
    timer.deadline = deadlineNs;
    let at = this.#armed.length;
    while (at > 0 && (this.#armed[at - 1]?.deadline ?? 0) > deadlineNs) at--;
    this.#armed.splice(at, 0, timer);
    this.#program();
  }

  cancel(timer: HrTimer): void {
    if (!timer.armed) return;
    this.#remove(timer);
    timer.deadline = Number.POSITIVE_INFINITY;
    this.#program();
  }

  /** The timer interrupt. */
  interrupt(): void {
    for (let first = this.#armed[0]; first !== undefined && first.deadline <= this.clock.now; first = this.#armed[0]) {
      this.#armed.shift();
      first.deadline = Number.POSITIVE_INFINITY;
      first.callback();
    }
    this.#program();
  }

  #remove(timer: HrTimer): void {
    const at = this.#armed.indexOf(timer);
    if (at >= 0) this.#armed.splice(at, 1);
  }

  #program(): void {
    const next = this.#armed[0]?.deadline ?? Number.POSITIVE_INFINITY;
    if (next === this.#programmedFor) return;
    if (this.#programmed !== null) this.clock.cancel(this.#programmed);
    this.#programmedFor = next;
    this.#programmed = next === Number.POSITIVE_INFINITY ? null : this.clock.setTimer(next, this.#expire);
  }

  readonly #expire = (): void => {
    this.#programmed = null;
    this.#programmedFor = Number.POSITIVE_INFINITY;
    this.lp.raiseInterrupt(LOCAL_TIMER_VECTOR);
  };
}
