import type { Reporter, SerializedError, TestCase, TestModule } from "vitest/node";

/** Names every skipped test with its reason, and closes the run with one line of counts. */
export default class ClosingReporter implements Reporter {
  /** What is said when the run does not come to its end. */
  #lines: string[] = ["the test run was broken off", "0 passed, 1 failed"];

  constructor() {
    // After every other reporter's last word.
    process.on("exit", () => process.stdout.write(`${this.#lines.join("\n")}\n`));
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state: string) => tests.filter((test) => test.result().state === state);
    const brokenModules = modules.filter((module) => module.state() === "failed" && module.errors().length > 0);
    const skipped = inState("skipped");
    const failed = inState("failed").length + brokenModules.length + unhandled.length;
    const counts = [`${inState("passed").length} passed`, `${failed} failed`];
    if (skipped.length > 0) counts.push(`${skipped.length} skipped`);
    this.#lines = [...skipped.map((test) => `skipped: ${placeOf(test)}: ${reasonOf(test)}`), counts.join(", ")];
  }
}

function placeOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName}`;
}

function reasonOf(test: TestCase): string {
  const result = test.result();
  return (result.state === "skipped" ? result.note : undefined) ?? "marked so in the test";
}
