import { describe, expect, it } from "vitest";
import type { InjectionTarget } from "../observe/injection/target.js";
import { EventBus } from "../platform/event-bus.js";
import type { Step } from "../vmm/machine.js";
import { type ConsoleInput, InputQueue, NO_INPUT } from "./console/input.js";
import type { Machine } from "./machine.js";
import { Session, type SessionLimits } from "./session.js";
import { StopSignals } from "./stop-signals.js";

const POWER_OFF: Step = { kind: "ended", end: { outcome: "power-off" } };
const BUDGET: Step = { kind: "budget" };

/** A machine that takes its steps from a script; the last one repeats. */
class ScriptedMachine implements Machine {
  readonly events = new EventBus({ insn: 0, clock: 0 });
  retired = 0;
  clockNs = 0;
  wantsInput = false;
  readonly fed: number[] = [];
  skipped = 0;
  #boundary: { at: number; action: () => void } | undefined;
  #paused = false;
  readonly #steps: (Step | (() => Step))[];

  constructor(...steps: (Step | (() => Step))[]) {
    this.#steps = steps;
  }

  readonly injectionTarget = {
    at: (at: number, action: () => void) => {
      this.#boundary = { at, action };
      return () => {};
    },
  } as unknown as InjectionTarget;

  step(instructions: number): Step {
    const end = this.retired + instructions;
    if (this.#boundary !== undefined && this.#boundary.at <= end) {
      this.retired = this.#boundary.at;
      this.#boundary.action();
      if (this.#paused) return BUDGET;
    }
    this.retired = end;
    const step = this.#steps.length > 1 ? this.#steps.shift() : this.#steps[0];
    return typeof step === "function" ? step() : (step as Step);
  }
  pause(): void {
    this.#paused = true;
  }
  feed(byte: number): void {
    this.fed.push(byte);
  }
  skipIdle(): void {
    this.skipped++;
    this.clockNs += 1e9;
  }
  passIdle(ns: number): void {
    this.clockNs += ns;
  }
  onConsole(): void {}
  whereabouts() {
    return { rip: 0n, cpl: 0, lastExit: "HLT" };
  }
  teardown() {
    return { private: 0, returned: 0, withheld: [], leaked: 0, poisoned: [] };
  }
  vcpus() {
    return [];
  }
}

const idle = (nextDeadlineNs = 1e9): Step => ({ kind: "idle", nextDeadlineNs });

function queued(text: string, open = false): ConsoleInput & { queue: InputQueue } {
  const queue = new InputQueue();
  queue.push(Buffer.from(text));
  if (!open) queue.end();
  return {
    queue,
    isTerminal: false,
    get open() {
      return queue.open;
    },
    take: () => queue.take(),
    wait: (milliseconds) => queue.wait(milliseconds),
    guestListens: () => {},
    close: () => {},
  };
}

async function ends(machine: Machine, input: ConsoleInput = NO_INPUT, limits: Partial<SessionLimits> = {}) {
  const stop = new StopSignals();
  try {
    return await new Session(machine, input, stop, { endOfFile: false, ...limits }).run();
  } finally {
    stop.dispose();
  }
}

describe("a session", () => {
  it("runs to the machine's own end", async () => {
    expect(await ends(new ScriptedMachine(BUDGET, BUDGET, POWER_OFF))).toMatchObject({ outcome: "power-off" });
  });

  it("ends at exactly --max-insns", async () => {
    const machine = new ScriptedMachine(BUDGET);
    expect(await ends(machine, NO_INPUT, { maxInstructions: 10_000_001 })).toMatchObject({ outcome: "limit" });
    expect(machine.retired).toBe(10_000_001);
  });

  it("ends at --timeout", async () => {
    const end = await ends(new ScriptedMachine(BUDGET), NO_INPUT, { timeoutSeconds: 0.05 });
    expect(end).toMatchObject({ outcome: "limit", message: "--timeout 0.05 s is over" });
  });

  it("skips idle time when no input can come", async () => {
    const machine = new ScriptedMachine(idle(), idle(), POWER_OFF);
    await ends(machine);
    expect(machine.skipped).toBe(2);
  });

  it("does not wait for ever for a guest that nothing can wake", async () => {
    const end = await ends(new ScriptedMachine(idle(Number.POSITIVE_INFINITY)));
    expect(end.outcome).toBe("limit");
    expect(end.message).toContain("halted");
  });

  it("feeds a pipe one byte per idle moment, only once the guest listens", async () => {
    const listening = () => {
      machine.wantsInput = true;
      return idle();
    };
    const machine: ScriptedMachine = new ScriptedMachine(idle(), BUDGET, listening, BUDGET, idle(), POWER_OFF);
    await ends(machine, queued("ab"));
    expect(Buffer.from(machine.fed).toString()).toBe("ab");
    expect(machine.skipped).toBe(1);
  });

  it("ends a shell's input with Ctrl-D, at most once a second of machine time", async () => {
    const machine = new ScriptedMachine(idle(), idle(), idle(), POWER_OFF);
    machine.wantsInput = true;
    await ends(machine, queued("x"), { endOfFile: true });
    expect(machine.fed).toEqual([0x78, 4]);
    expect(machine.skipped).toBe(1);
  });

  it("lets idle time pass by the wall clock while input may still come", async () => {
    const input = queued("", true);
    const machine = new ScriptedMachine(idle(5e6), POWER_OFF);
    machine.wantsInput = true;
    await ends(machine, input);
    expect(machine.skipped).toBe(0);
    expect(machine.clockNs).toBeGreaterThan(0);
  });

  it("reports a fault of the machine itself as an end", async () => {
    const broken = new ScriptedMachine(() => {
      throw new RangeError("broken invariant");
    });
    const end = await ends(broken);
    expect(end).toMatchObject({ outcome: "error", error: { code: "INTERNAL" } });
    expect(end.error?.message).toContain("broken invariant");
  });

  it("stops when asked, with the status of who asked", async () => {
    const stop = new StopSignals();
    stop.ask({ name: "SIGTERM", status: 143 });
    stop.ask({ name: "SIGINT", status: 130 });
    const session = new Session(new ScriptedMachine(BUDGET), NO_INPUT, stop, { endOfFile: false });
    expect(await session.run()).toMatchObject({ outcome: "stopped", signal: "SIGTERM", status: 143 });
    stop.dispose();
  });
});
