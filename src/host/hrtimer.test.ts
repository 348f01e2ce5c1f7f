import { describe, expect, it } from "vitest";
import { Clock } from "../platform/clock.js";
import type { HardwareLp } from "./hardware.js";
import { HrTimer, HrTimerQueue, LOCAL_TIMER_VECTOR } from "./hrtimer.js";

function queue(): { clock: Clock; raised: number[]; timers: HrTimerQueue } {
  const clock = new Clock();
  const raised: number[] = [];
  const lp = { raiseInterrupt: (vector: number) => raised.push(vector) } as unknown as HardwareLp;
  return { clock, raised, timers: new HrTimerQueue(clock, lp) };
}

describe("timers of a processor", () => {
  it("raise the timer interrupt, whose handler runs what is due in order", () => {
    const { clock, raised, timers } = queue();
    const ran: string[] = [];
    const timer = (name: string): HrTimer => new HrTimer(timers, () => ran.push(name));
    const [late, first, second] = [timer("late"), timer("first"), timer("second")];
    late.start(300);
    first.start(100);
    second.start(100);
    clock.skipToNext();
    expect([clock.now, raised, ran]).toEqual([100, [LOCAL_TIMER_VECTOR], []]);
    timers.interrupt();
    expect(ran).toEqual(["first", "second"]);
    expect([first.armed, late.armed, clock.nextDeadline()]).toEqual([false, true, 300]);
  });

  it("that are cancelled leave nothing behind", () => {
    const { clock, timers } = queue();
    const timer = new HrTimer(timers, () => undefined);
    timer.start(100);
    timer.start(50);
    expect(clock.nextDeadline()).toBe(50);
    timer.cancel();
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
  });

  it("can be armed again by their own callback", () => {
    const { clock, raised, timers } = queue();
    const timer: HrTimer = new HrTimer(timers, () => timer.start(clock.now + 10));
    timer.start(10);
    for (let i = 0; i < 3; i++) {
      clock.skipToNext();
      timers.interrupt();
    }
    expect([clock.now, raised.length, timer.deadline]).toEqual([30, 3, 40]);
  });
});
