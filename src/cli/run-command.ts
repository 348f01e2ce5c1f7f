import { performance } from "node:perf_hooks";
import { findSmallTd } from "../guests/small-tds.js";
import { InjectionScheduler } from "../observe/injection/scheduler.js";
import {
  hex,
  type Outcome,
  outcomeDocument,
  type PageReport,
  type RunConfig,
  type Trouble,
} from "../observe/outcome.js";
import { Tally } from "../observe/tally.js";
import { ESCAPE_HELP } from "./console/escape.js";
import { type ConsoleInput, NO_INPUT } from "./console/input.js";
import { type ConsoleOutput, fileOutput, streamOutput } from "./console/output.js";
import { standardInput } from "./console/stdin.js";
import { STATUS, UserError } from "./errors.js";
import { writeJson } from "./json-file.js";
import type { Machine, MachineFactory, Whereabouts } from "./machine.js";
import { type GuestExtras, type LoadedGuest, loadGuest } from "./payload.js";
import type { RunRequest } from "./run-request.js";
import { Session, type SessionEnd, type SessionLimits } from "./session.js";
import type { Speaker } from "./speaker.js";
import { statusOf, wantsWhereabouts } from "./statuses.js";
import { StopSignals } from "./stop-signals.js";

/** What the tour does more than a plain run. */
export interface RunExtras extends GuestExtras {
  /** No input, whatever stdin is. */
  readonly noInput?: boolean;
  /** Called with the machine and its injections before the first instruction. */
  readonly attach?: (machine: Machine, scheduler: InjectionScheduler) => void;
}

export interface RunResult {
  readonly status: number;
  readonly outcome: Outcome;
}

const NO_PAGES: PageReport = { private: 0, returned: 0, withheld: [], leaked: 0, poisoned: [] };

/** Runs a guest from its files to the end, whatever that is, and reports it. */
export async function runCommand(
  request: RunRequest,
  speaker: Speaker,
  createMachine: Promise<MachineFactory>,
  extras: RunExtras = {},
): Promise<RunResult> {
  const config = configOf(request);
  let guest: LoadedGuest | undefined;
  try {
    guest = await loadGuest(request.guest, (line) => speaker.say(line), extras);
    const run = new Run(request, config, guest, speaker, createMachine, extras);
    return await run.toItsEnd();
  } catch (error) {
    if (!(error instanceof UserError) || error.status === STATUS.usage) throw error;
    speaker.fail(error.message, error.hint);
    const outcome = failedOutcome(config, guest, error);
    if (request.json !== undefined) writeJson(request.json, outcomeDocument(outcome));
    return { status: error.status, outcome };
  }
}

function configOf(request: RunRequest): RunConfig {
  const { guest } = request;
  // A small TD says itself how large it is.
  const small = guest.kind === "small-td" ? findSmallTd(guest.name) : undefined;
  return {
    memory: small?.memory ?? request.memory,
    vcpus: small?.vcpus ?? request.vcpus,
    append: small === undefined ? request.append : "",
    seed: request.seed,
    profiles: { module: request.moduleProfile, host: request.hostProfile },
    emca: request.emca,
    filter: request.filter,
  };
}

function failedOutcome(config: RunConfig, guest: LoadedGuest | undefined, error: Trouble): Outcome {
  return {
    outcome: "error",
    error: { code: error.code, message: error.message, hint: error.hint },
    guest: guest?.report ?? null,
    config,
    kvmExit: null,
    signal: null,
    instructions: 0,
    clock: 0,
    seconds: 0,
    startupSeconds: 0,
    exits: {},
    smmEntries: 0,
    machineChecks: 0,
    pages: NO_PAGES,
    injections: [],
    vcpus: [],
  };
}

/** One run of one machine. */
class Run {
  readonly #stop = new StopSignals();
  readonly #input: ConsoleInput;
  readonly #console: ConsoleOutput;

  constructor(
    private readonly request: RunRequest,
    private readonly config: RunConfig,
    private readonly guest: LoadedGuest,
    private readonly speaker: Speaker,
    private readonly createMachine: Promise<MachineFactory>,
    private readonly extras: RunExtras,
  ) {
    this.#console = this.#openConsole();
    speaker.beforeLine = () => this.#console.flush();
    this.#input = extras.noInput ? NO_INPUT : standardInput((command) => this.#escape(command));
  }

  async toItsEnd(): Promise<RunResult> {
    const { request, speaker } = this;
    try {
      const machine = await this.#launch();
      const tally = new Tally(machine.events);
      const scheduler = new InjectionScheduler(machine.injectionTarget);
      machine.onConsole((bytes) => this.#show(bytes, scheduler));
      for (const spec of request.injections) scheduler.add(spec);
      this.extras.attach?.(machine, scheduler);
      const session = new Session(machine, this.#input, this.#stop, this.#limits());
      const startupSeconds = performance.now() / 1000;
      const end = await session.run();
      this.#input.close();
      const place = machine.whereabouts();
      const outcome = this.#outcome(machine, scheduler, tally, end, startupSeconds);
      this.#report(end, outcome, place);
      if (request.json !== undefined) writeJson(request.json, outcomeDocument(outcome));
      return { status: statusOf(end), outcome };
    } finally {
      this.#input.close();
      this.#console.close();
      this.#stop.dispose();
      speaker.beforeLine = () => {};
    }
  }

  async #launch(): Promise<Machine> {
    const config = { ...this.config, payload: this.guest.payload, rtc: this.request.rtc };
    const createMachine = await this.createMachine;
    try {
      return createMachine(config);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(error.code, `${this.guest.report.kernel}: ${error.message}`, error.hint);
    }
  }

  #limits(): SessionLimits {
    const { maxInstructions, timeoutSeconds, guest } = this.request;
    return {
      ...(maxInstructions === undefined ? {} : { maxInstructions }),
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
      endOfFile: guest.kind === "debian" && !this.extras.noInput,
    };
  }

  #openConsole(): ConsoleOutput {
    const { console, json } = this.request;
    if (console !== undefined) return fileOutput(console);
    return streamOutput(json === "-" ? process.stderr : process.stdout);
  }

  #show(bytes: Uint8Array, scheduler: InjectionScheduler): void {
    if (!this.#console.write(bytes)) this.#stop.ask({ name: "the console's reader has gone", status: STATUS.failure });
    if (this.request.console === undefined) this.speaker.consoleWrote(bytes);
    scheduler.consoleOutput(bytes);
  }

  #escape(command: "end" | "help"): void {
    if (command === "end") this.#stop.ask({ name: "Ctrl-A x", status: STATUS.sigint });
    else this.speaker.tell(`seamless: ${ESCAPE_HELP}`);
  }

  #outcome(
    machine: Machine,
    scheduler: InjectionScheduler,
    tally: Tally,
    end: SessionEnd,
    startupSeconds: number,
  ): Outcome {
    const vcpus = machine.vcpus();
    const pages = machine.teardown();
    return {
      outcome: end.outcome,
      error: end.error ?? null,
      guest: this.guest.report,
      config: this.config,
      kvmExit: end.kvmExit ?? null,
      signal: end.signal ?? null,
      instructions: machine.retired,
      clock: machine.clockNs,
      seconds: end.seconds,
      startupSeconds,
      exits: tally.exits,
      smmEntries: tally.smmEntries,
      machineChecks: tally.machineChecks,
      pages,
      injections: scheduler.records(),
      vcpus,
    };
  }

  #report(end: SessionEnd, outcome: Outcome, { rip, cpl, lastExit }: Whereabouts): void {
    const { speaker } = this;
    for (const { spec, fired } of outcome.injections) {
      if (fired === 0) speaker.warn(`the injection ${spec.event}@${spec.whenText} never fired`);
    }
    if (end.error !== undefined) speaker.fail(end.error.message, end.error.hint);
    if (wantsWhereabouts(end.outcome)) {
      const place = `the guest was at RIP ${hex(rip)}, CPL ${cpl}, last exit ${lastExit}`;
      speaker.warn(`${end.message ?? end.outcome}; ${place}`);
    }
    speaker.say(closingLine(outcome));
  }
}

/** `power-off after 1,234,567 instructions in 6.1 s (147 MIPS); 114,688 pages: 114,688 returned`. */
export function closingLine({ outcome, instructions, seconds, pages }: Outcome): string {
  const mips = seconds > 0 ? Math.round(instructions / seconds / 1e6) : 0;
  const parts = [`${grouped(pages.returned)} returned`];
  if (pages.withheld.length > 0)
    parts.push(`${pages.withheld.length} withheld (${pages.withheld.map(hex).join(", ")})`);
  if (pages.leaked > 0) parts.push(`${grouped(pages.leaked)} leaked`);
  const ran = `${grouped(instructions)} instructions in ${seconds.toFixed(1)} s (${mips} MIPS)`;
  return `${outcome} after ${ran}; ${grouped(pages.private)} private pages: ${parts.join(", ")}`;
}

function grouped(count: number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}
