import { expect, it } from "vitest";
import { Boundaries } from "./boundaries.js";

it("runs actions at their boundary, in order of asking, and forgets those taken back", () => {
  const boundaries = new Boundaries();
  const log: string[] = [];
  boundaries.at(10, () => log.push("a"));
  const cancel = boundaries.at(5, () => log.push("never"));
  boundaries.at(10, () => log.push("b"));
  boundaries.at(7, () => {
    log.push("c");
    boundaries.at(3, () => log.push("late"));
  });
  cancel();
  expect(boundaries.next()).toBe(7);
  boundaries.runDue(6);
  boundaries.runDue(9);
  expect(log).toEqual(["c", "late"]);
  expect(boundaries.next()).toBe(10);
  boundaries.runDue(10);
  expect(log).toEqual(["c", "late", "a", "b"]);
  expect(boundaries.next()).toBe(Number.POSITIVE_INFINITY);
});

it("takes an action off before it runs, so that a throwing one does not repeat", () => {
  const boundaries = new Boundaries();
  boundaries.at(1, () => {
    throw new Error("stop here");
  });
  expect(() => boundaries.runDue(1)).toThrow("stop here");
  expect(() => boundaries.runDue(1)).not.toThrow();
});
