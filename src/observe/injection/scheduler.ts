import { BANK } from "../../arch/mca.js";
import { EXIT_REASON } from "../../arch/vmx.js";
import type { MachineEvent } from "../../platform/event-bus.js";
import { LINE_SIZE } from "../../platform/memory/lines.js";
import { ConsoleMatcher } from "./console-matcher.js";
import type { InjectionSpec } from "./grammar.js";
import type { Cancel, InjectionTarget } from "./target.js";

/** Where an injected event took effect. Addresses are known for memory errors only. */
export interface Taken {
  readonly retired: number;
  readonly vcpu: number | null;
  readonly gpa: number | null;
  readonly hpa: number | null;
}

/** What became of one injection. */
export interface InjectionRecord {
  readonly spec: InjectionSpec;
  /** How often the event became pending, or the error was armed. */
  readonly fired: number;
  readonly taken: readonly Taken[];
}

interface Injection extends InjectionRecord {
  fired: number;
  readonly taken: Taken[];
}

/** An event that is pending and not yet taken. */
interface Pending {
  readonly injection: Injection;
  readonly lp: number;
}

/** A line that was poisoned by address and not yet consumed. */
interface PoisonedLine {
  readonly injection: Injection;
  readonly gpa: number;
  readonly hpa: number;
}

/** Lets injections happen on one machine, and records what became of them. */
export class InjectionScheduler {
  readonly #injections: Injection[] = [];
  readonly #cancels: Cancel[] = [];
  readonly #matchers: { readonly matcher: ConsoleMatcher; readonly injection: Injection }[] = [];
  #pendingSmis: Pending[] = [];
  #pendingNmis: Pending[] = [];
  #poisonedLines: PoisonedLine[] = [];

  constructor(private readonly target: InjectionTarget) {
    this.#cancels.push(
      target.events.on("smm-enter", ({ lp }) => {
        this.#pendingSmis = this.#settle(this.#pendingSmis, lp);
      }),
      target.events.on("kvm-exit", ({ lp, fields }) => {
        if (fields.reason === EXIT_REASON.EXCEPTION_NMI) this.#pendingNmis = this.#settle(this.#pendingNmis, lp);
      }),
      target.events.on("mca-logged", (event) => this.#logged(event)),
    );
  }

  /** Arms an injection. */
  add(spec: InjectionSpec): void {
    const injection: Injection = { spec, fired: 0, taken: [] };
    this.#injections.push(injection);
    const { when } = spec;
    if (when.kind === "insn") this.#armCount(injection, when.from, when.to, when.step);
    if (when.kind === "rip") this.#cancels.push(this.target.atRip(when.address, () => this.#fire(injection)));
    if (when.kind === "console") this.#matchers.push({ matcher: new ConsoleMatcher(when.text), injection });
  }

  /** The guest has printed this. What waits for a text becomes pending at the boundary after the instruction that printed. */
  consoleOutput(bytes: Uint8Array): void {
    for (const { matcher, injection } of this.#matchers) {
      if (!matcher.push(bytes)) continue;
      this.#cancels.push(this.target.at(this.target.retired + 1, () => this.#fire(injection)));
    }
  }

  /** What has become of each injection so far, in the order in which they were added. */
  records(): readonly InjectionRecord[] {
    return this.#injections;
  }

  /** Takes back everything that has not happened. */
  dispose(): void {
    for (const cancel of this.#cancels.splice(0)) cancel();
  }

  #armCount(injection: Injection, next: number, to: number, step: number): void {
    const fire = () => {
      this.#fire(injection);
      if (next + step <= to) this.#armCount(injection, next + step, to, step);
    };
    this.#cancels.push(this.target.at(next, fire));
  }

  #fire(injection: Injection): void {
    const { spec } = injection;
    injection.fired++;
    if (spec.event === "memory-error") {
      this.#strikeMemory(injection);
      return;
    }
    for (const lp of this.#processors(spec)) {
      if (spec.event === "nmi") {
        this.#pendingNmis.push({ injection, lp });
        this.target.raise(lp, "nmi");
        if (!this.target.nmiPending(lp)) this.#pendingNmis = this.#settle(this.#pendingNmis, lp);
        continue;
      }
      this.#pendingSmis.push({ injection, lp });
      if (spec.event === "csmi") this.target.correctedError(lp);
      else this.target.raise(lp, "smi");
    }
  }

  #processors(spec: InjectionSpec): number[] {
    if (spec.broadcast) return Array.from({ length: this.target.logicalProcessors }, (_, lp) => lp);
    return [this.target.processorOf(spec.vcpu)];
  }

  #strikeMemory(injection: Injection): void {
    const { gpa, on } = injection.spec;
    if (gpa === undefined) {
      const strike = (accessGpa: number, hpa: number) => this.#poison(injection, accessGpa, hpa);
      this.#cancels.push(this.target.watchAccess(on, strike));
      return;
    }
    const hpa = this.target.translate(gpa);
    if (hpa !== undefined) this.#poison(injection, gpa, hpa);
  }

  #poison(injection: Injection, gpa: number, hpa: number): void {
    this.#poisonedLines.push({ injection, gpa: alignToLine(gpa), hpa: alignToLine(hpa) });
    this.target.poisonLine(alignToLine(hpa));
  }

  /** Everything that was pending on this processor has been taken by it: latched events merge. */
  #settle(pending: readonly Pending[], lp: number): Pending[] {
    const { retired } = this.target;
    for (const each of pending) {
      if (each.lp === lp) each.injection.taken.push({ retired, vcpu: this.target.vcpuOn(lp), gpa: null, hpa: null });
    }
    return pending.filter((each) => each.lp !== lp);
  }

  /** A core that logs an error in a poisoned line has consumed it; the memory controller's log says nothing about that. */
  #logged({ lp, insn, fields }: MachineEvent): void {
    if (fields.bank === BANK.IMC || typeof fields.addr !== "bigint") return;
    const line = alignToLine(this.target.memoryAddress(fields.addr));
    for (const { injection, gpa, hpa } of this.#poisonedLines) {
      if (hpa === line) injection.taken.push({ retired: insn, vcpu: this.target.vcpuOn(lp), gpa, hpa });
    }
    this.#poisonedLines = this.#poisonedLines.filter(({ hpa }) => hpa !== line);
  }
}

function alignToLine(address: number): number {
  return address - (address % LINE_SIZE);
}
