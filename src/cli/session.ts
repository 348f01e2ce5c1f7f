import { performance } from "node:perf_hooks";
import type { OutcomeName, Trouble } from "../observe/outcome.js";
import type { End } from "../vmm/end.js";
import type { ConsoleInput } from "./console/input.js";
import { internalTrouble } from "./errors.js";
import type { Machine } from "./machine.js";
import type { StopSignals } from "./stop-signals.js";

/** Instructions per slice: a few hundredths of a second. */
const SLICE = 4_000_000;
/** How long the event loop may wait for its turn. */
const TURN_MS = 25;
/** Longest real wait in one go while the guest idles. */
const IDLE_WAIT_MS = 200;
const NS_PER_MS = 1e6;
/** Ctrl-D: a terminal's end of file. */
const END_OF_FILE = 0x04;
/** Machine time between two ends of file. */
const END_OF_FILE_INTERVAL_NS = 1e9;

export interface SessionLimits {
  readonly maxInstructions?: number;
  readonly timeoutSeconds?: number;
  /** At the end of an input that is no terminal, the console gets Ctrl-D, so that a shell ends. */
  readonly endOfFile: boolean;
}

export interface SessionEnd extends Omit<End, "outcome"> {
  readonly outcome: OutcomeName;
  readonly error?: Trouble;
  /** Exit status where it does not follow from the outcome. */
  readonly status?: number;
  /** Wall time from the first guest instruction, in seconds. */
  readonly seconds: number;
}

/** Runs a machine to an end of whatever kind. */
export class Session {
  #limitReached = false;
  #lastTurn = 0;
  #nextEndOfFile = 0;
  #listening = false;

  constructor(
    private readonly machine: Machine,
    private readonly input: ConsoleInput,
    private readonly stop: StopSignals,
    private readonly limits: SessionLimits,
  ) {
    const { maxInstructions } = limits;
    if (maxInstructions !== undefined) {
      machine.injectionTarget.at(maxInstructions, () => {
        this.#limitReached = true;
        machine.pause();
      });
    }
  }

  async run(): Promise<SessionEnd> {
    const start = performance.now();
    const seconds = () => (performance.now() - start) / 1000;
    this.#lastTurn = start;
    for (;;) {
      const end = this.#outsideEnd(seconds()) ?? (await this.#guarded());
      if (end !== undefined) return { ...end, seconds: seconds() };
    }
  }

  /** A slice; a fault of our own in it is an end like any other, so that it is reported and nothing is lost. */
  async #guarded(): Promise<Omit<SessionEnd, "seconds"> | undefined> {
    try {
      return await this.#slice();
    } catch (error) {
      return { outcome: "error", error: internalTrouble(error) };
    }
  }

  #outsideEnd(seconds: number): Omit<SessionEnd, "seconds"> | undefined {
    const { request } = this.stop;
    if (request !== undefined) {
      const signal = request.name.startsWith("SIG") ? { signal: request.name } : {};
      return { outcome: "stopped", ...signal, status: request.status, message: request.name };
    }
    if (this.#limitReached) {
      return { outcome: "limit", message: `--max-insns ${this.limits.maxInstructions} reached` };
    }
    const { timeoutSeconds } = this.limits;
    if (timeoutSeconds !== undefined && seconds >= timeoutSeconds) {
      return { outcome: "limit", message: `--timeout ${timeoutSeconds} s is over` };
    }
    return undefined;
  }

  async #slice(): Promise<Omit<SessionEnd, "seconds"> | undefined> {
    const { machine, input } = this;
    const step = machine.step(SLICE);
    if (step.kind === "ended") return step.end;
    if (this.#limitReached) return undefined;
    this.#noticeListening();
    const fed = (step.kind === "idle" || input.isTerminal) && this.#feed();
    if (step.kind === "budget" || fed) await this.#turn();
    else return this.#idle(step.nextDeadlineNs);
    return undefined;
  }

  #noticeListening(): void {
    if (this.#listening || !this.machine.wantsInput) return;
    this.#listening = true;
    this.input.guestListens();
  }

  /** One byte, if the guest wants one and there is one. */
  #feed(): boolean {
    const byte = this.machine.wantsInput ? this.input.take() : undefined;
    if (byte !== undefined) this.machine.feed(byte);
    return byte !== undefined;
  }

  async #idle(nextDeadlineNs: number): Promise<Omit<SessionEnd, "seconds"> | undefined> {
    const { machine, input } = this;
    if (this.#listening && input.open) {
      await this.#idleInRealTime(nextDeadlineNs);
    } else if (this.#feedEndOfFile()) {
      await this.#turn();
    } else if (nextDeadlineNs === Number.POSITIVE_INFINITY) {
      return { outcome: "limit", message: "every vCPU is halted, no timer is set and no input can come" };
    } else {
      machine.skipIdle();
      await this.#turn();
    }
    return undefined;
  }

  /** Somebody may type: idle time is the wall clock's. */
  async #idleInRealTime(nextDeadlineNs: number): Promise<void> {
    const begin = performance.now();
    const untilTimer = (nextDeadlineNs - this.machine.clockNs) / NS_PER_MS;
    await this.input.wait(Math.max(0, Math.min(untilTimer, IDLE_WAIT_MS)));
    this.#lastTurn = performance.now();
    this.machine.passIdle(Math.round((this.#lastTurn - begin) * NS_PER_MS));
  }

  #feedEndOfFile(): boolean {
    const { machine } = this;
    if (!this.limits.endOfFile || !machine.wantsInput || machine.clockNs < this.#nextEndOfFile) return false;
    this.#nextEndOfFile = machine.clockNs + END_OF_FILE_INTERVAL_NS;
    machine.feed(END_OF_FILE);
    return true;
  }

  /** Lets signals and input in, now and then. */
  async #turn(): Promise<void> {
    if (performance.now() - this.#lastTurn < TURN_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#lastTurn = performance.now();
  }
}
