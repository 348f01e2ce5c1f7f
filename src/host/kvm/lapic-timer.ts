import { LVT } from "../../arch/apic.js";
import type { HrTimer } from "../hrtimer.js";

/** What the timer asks of the vCPU and its VM. */
export interface LapicTimerHost {
  /** Now, in ns of the clock. */
  nowNs(): number;
  /** Clock time at which the TD's TSC reaches a value, in whole ns. */
  tscToNs(tsc: bigint): number;
  /** ns of one count of the timer before it is divided. */
  readonly apicBusCycleNs: number;
  createTimer(callback: () => void): HrTimer;
  /** The timer expired: `pending` has been counted up; the vCPU must come and deliver it. */
  timerExpired(): void;
}

/** Shortest period that KVM lets a guest have (min_timer_period_us). */
const MIN_PERIOD_NS = 200_000;

/**
 * Timer of an emulated local APIC: one-shot, periodic and TSC deadline, on a timer of the host. Expiry is only counted here; the
 * run loop delivers it (kvm_inject_pending_timer_irqs).
 */
export class LapicTimer {
  mode: number = LVT.TIMER_ONESHOT;
  /** Expirations that were not delivered yet. */
  pending = 0;
  initialCount = 0;
  #divisor = 2;
  /** TSC deadline that is armed; 0n: none. */
  #tscDeadline = 0n;
  /** Clock time of the next expiry in the counting modes. */
  #target = 0;
  readonly #timer: HrTimer;

  constructor(private readonly host: LapicTimerHost) {
    this.#timer = host.createTimer(() => this.#expired());
  }

  /** IA32_TSC_DEADLINE; 0n in the other modes. */
  get tscDeadline(): bigint {
    return this.mode === LVT.TIMER_TSC_DEADLINE ? this.#tscDeadline : 0n;
  }
  set tscDeadline(value: bigint) {
    if (this.mode !== LVT.TIMER_TSC_DEADLINE) return;
    this.#timer.cancel();
    this.pending = 0;
    this.#tscDeadline = value;
    if (value !== 0n) this.#arm(this.host.tscToNs(value));
  }

  setMode(mode: number): void {
    if (mode === this.mode) return;
    const toOrFromDeadline = mode === LVT.TIMER_TSC_DEADLINE || this.mode === LVT.TIMER_TSC_DEADLINE;
    this.mode = mode;
    if (!toOrFromDeadline) return;
    this.#timer.cancel();
    this.pending = 0;
    this.initialCount = 0;
    this.#tscDeadline = 0n;
  }

  startCount(count: number): void {
    this.#timer.cancel();
    this.pending = 0;
    this.initialCount = count;
    if (count === 0) return;
    this.#target = this.host.nowNs() + this.#periodNs();
    this.#arm(this.#target);
  }

  /** The rest of a running count keeps its number of counts. */
  setDivisor(divisor: number): void {
    const old = this.#divisor;
    this.#divisor = divisor;
    if (old === divisor || !this.#timer.armed || this.mode === LVT.TIMER_TSC_DEADLINE) return;
    const now = this.host.nowNs();
    this.#target = now + Math.ceil(((this.#target - now) * divisor) / old);
    this.#arm(this.#target);
  }

  currentCount(): number {
    if (this.initialCount === 0 || this.mode === LVT.TIMER_TSC_DEADLINE) return 0;
    const left = this.#target - this.host.nowNs();
    return left <= 0 ? 0 : Math.floor(left / (this.host.apicBusCycleNs * this.#divisor));
  }

  /** The pending expiry has been delivered. */
  delivered(): void {
    this.pending = 0;
    if (this.mode === LVT.TIMER_TSC_DEADLINE) this.#tscDeadline = 0n;
  }

  /** When it goes off, in ns of the clock; Infinity: not armed. */
  get deadlineNs(): number {
    return this.#timer.deadline;
  }

  stop(): void {
    this.#timer.cancel();
  }

  #periodNs(): number {
    const period = this.initialCount * this.host.apicBusCycleNs * this.#divisor;
    return this.mode === LVT.TIMER_PERIODIC ? Math.max(period, MIN_PERIOD_NS) : period;
  }

  /** A time that has passed expires at once, without a round through the timer interrupt. */
  #arm(deadlineNs: number): void {
    if (deadlineNs <= this.host.nowNs()) this.#expired();
    else this.#timer.start(deadlineNs);
  }

  #expired(): void {
    this.pending++;
    if (this.mode === LVT.TIMER_PERIODIC && this.initialCount !== 0) {
      this.#target = Math.max(this.#target + this.#periodNs(), this.host.nowNs() + 1);
      this.#timer.start(this.#target);
    }
    this.host.timerExpired();
  }
}
