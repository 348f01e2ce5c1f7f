import { describe, expect, it } from "vitest";
import { Clock } from "./clock.js";

describe("Clock", () => {
  it("lets timers go off by deadline, then by order of arming", () => {
    const clock = new Clock();
    const log: string[] = [];
    for (const [name, deadline] of [
      ["a", 20],
      ["b", 10],
      ["c", 20],
      ["d", 10],
      ["e", 5],
    ] as const) {
      clock.setTimer(deadline, () => log.push(name));
    }
    clock.advance(20);
    expect(log).toEqual([]);
    clock.runDue();
    expect(log.join("")).toBe("ebdac");
  });

  it("takes timers back, and those set by callbacks along", () => {
    const clock = new Clock();
    const log: number[] = [];
    const handle = clock.setTimer(5, () => log.push(-1));
    clock.cancel(handle);
    clock.cancel(handle);
    const tick = (): void => {
      log.push(clock.now);
      if (log.length < 3) clock.setTimer(clock.now + 4, tick);
    };
    clock.setTimer(4, tick);
    expect(clock.nextDeadline()).toBe(4);
    while (clock.skipToNext());
    expect(log).toEqual([4, 8, 12]);
    expect(clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
  });

  it("never goes back when it skips to an overdue timer", () => {
    const clock = new Clock();
    clock.setTimer(5, () => undefined);
    clock.advance(9);
    expect(clock.skipToNext()).toBe(true);
    expect(clock.now).toBe(9);
    expect(clock.skipToNext()).toBe(false);
  });
});
