import { BANK, MCI_STATUS } from "../arch/mca.js";
import { STATUS_NON_RECOVERABLE } from "../arch/tdx-status.js";
import type { EventBus, EventFields, Layer, MachineEvent } from "../platform/event-bus.js";
import { hex } from "./outcome.js";

/** One step of the story, ready to be shown. */
export interface StoryLine {
  readonly layer: Layer;
  readonly event: string;
  /** The event's own values, `name=value`. */
  readonly values: string;
  /** What the step means. */
  readonly meaning: string;
}

/** How a step is told: which of its values are worth showing, and what it means. */
interface Telling {
  readonly values: readonly string[];
  readonly meaning: string | ((fields: EventFields) => string);
}

const isMsmi = (fields: EventFields) => Boolean(fields.msmi) || (Number(fields.qualification ?? 0) & 1) === 1;

function isUncorrected({ status }: EventFields): boolean {
  return typeof status === "bigint" && (status & MCI_STATUS.UC) !== 0n;
}

function loggedError(fields: EventFields): string {
  if (!isUncorrected(fields)) return "an error that ECC corrects is logged, and signalled by an SMI (CSMI)";
  if (Number(fields.bank) >= BANK.IMC) return "the memory controller meets poison, and logs it";
  return "the core consumes the poison: a machine check, which eMCA turns into an SMI";
}

/** The steps of an SMI's way, in the words of the tour. */
const STEPS: Readonly<Record<string, Telling>> = {
  "mca-logged": { values: ["bank", "status", "addr"], meaning: loggedError },
  "smi-latched": {
    values: ["msmi"],
    meaning: (fields) => `${isMsmi(fields) ? "a machine-check SMI" : "an SMI"} is pending: SEAM non-root exits for it`,
  },
  "td-exit": {
    values: ["reason", "qualification", "status"],
    meaning: (fields) =>
      isMsmi(fields)
        ? "OTHER_SMI with qualification bit 0: an MSMI, and the module gives the TD up"
        : "OTHER_SMI: the module ends TDH.VP.ENTER, the SMI stays pending",
  },
  "td-fatal": { values: ["tdr"], meaning: "no vCPU of this TD will run again" },
  seamret: {
    values: ["status"],
    meaning: "back in VMX root: what SEAM held back opens, before the host's next instruction",
  },
  "smm-enter": { values: ["smiCount", "rip", "rax"], meaning: "the SMI is taken here; the firmware's handler runs" },
  "smm-exit": { values: ["smiCount"], meaning: "RSM: back to the host" },
  "machine-check": {
    values: ["bank", "addr", "mcgStatus", "severity"],
    meaning: (fields) => `#MC after RSM, in the host's handler: "${fields.name ?? ""}"`,
  },
  "page-poisoned": { values: ["hpa"], meaning: "the host marks the page" },
  "kvm-exit": {
    values: ["reason", "status"],
    meaning: (fields) =>
      isNonRecoverable(fields)
        ? "KVM sees a status that no TD comes back from"
        : "KVM sees OTHER_SMI, has nothing to do, and resumes the vCPU",
  },
  "kvm-userspace-exit": { values: ["reason", "name"], meaning: "KVM leaves to the VMM" },
  "page-withheld": { values: ["hpa"], meaning: "teardown: the poisoned page does not go back to the free list" },
};

function isNonRecoverable(fields: EventFields): boolean {
  const { status } = fields;
  return typeof status === "bigint" && (status & STATUS_NON_RECOVERABLE) !== 0n;
}

/** The steps of a plain SMI, in order. */
export const PLAIN_SMI_STEPS = ["smi-latched", "td-exit", "seamret", "smm-enter", "smm-exit", "kvm-exit"] as const;

/** The steps of a fatal one, in order, up to the last page. */
export const MSMI_STEPS = [
  "smi-latched",
  "td-exit",
  "td-fatal",
  "seamret",
  "smm-enter",
  "smm-exit",
  "machine-check",
  "page-poisoned",
  "kvm-exit",
  "kvm-userspace-exit",
  "page-withheld",
] as const;

/**
 * Follows SMIs through the layers. Between SMIs the machine's many other exits are no part of the story; after a fatal one
 * the story goes on to the teardown.
 */
export class Story {
  /** Steps seen since the last SMI was latched, in order. */
  #steps: string[] = [];
  #following = false;
  #fatal = false;
  /** KVM has left to the VMM for good: SEAMCALLs of the teardown are another story. */
  #inTeardown = false;
  /** Whole plain stories seen. */
  plainSmis = 0;
  /** Pages that went back to the host's free list. */
  pagesReturned = 0;
  readonly #stops: (() => void)[] = [];

  constructor(
    events: EventBus,
    private readonly tell: (line: StoryLine) => void,
  ) {
    for (const name of Object.keys(STEPS)) this.#stops.push(events.on(name, (event) => this.#hear(event)));
    this.#stops.push(
      events.on("page-returned", ({ fields }) => {
        this.pagesReturned += Number(fields.count ?? 1);
      }),
    );
  }

  /** True once every step of the fatal story has been seen, in order. */
  get fatalStoryComplete(): boolean {
    return this.#fatal && containsInOrder(this.#steps, MSMI_STEPS);
  }

  /** Steps of the fatal story that have not been seen. */
  get missing(): string[] {
    return MSMI_STEPS.filter((step) => !this.#steps.includes(step));
  }

  dispose(): void {
    for (const stop of this.#stops) stop();
  }

  #hear(event: MachineEvent): void {
    // The module tells of its own SEAMRET; what counts here is what the processor does at it.
    if (event.event === "seamret" && event.layer !== "platform") return;
    if (event.event === "smi-latched" || event.event === "mca-logged") this.#begin();
    if (!this.#following || (this.#inTeardown && !event.event.startsWith("page-"))) return;
    if (event.event === "kvm-userspace-exit") this.#inTeardown = true;
    if (event.event === "td-fatal") this.#fatal = true;
    this.#steps.push(event.event);
    this.tell(lineOf(event));
    if (event.event === "kvm-exit" && !this.#fatal) this.#end();
  }

  #begin(): void {
    const goesOn = this.#steps.at(-1) === "mca-logged";
    if (!this.#fatal && !goesOn) this.#steps = [];
    this.#following = true;
  }

  #end(): void {
    this.#following = false;
    if (containsInOrder(this.#steps, PLAIN_SMI_STEPS)) this.plainSmis++;
  }
}

function containsInOrder(seen: readonly string[], wanted: readonly string[]): boolean {
  let next = 0;
  for (const step of seen) if (step === wanted[next]) next++;
  return next === wanted.length;
}

function lineOf({ layer, event, fields }: MachineEvent): StoryLine {
  const { values, meaning } = STEPS[event] as Telling;
  const shown = Object.fromEntries(values.map((name) => [name, fields[name] ?? null]));
  return { layer, event, values: valuesOf(shown), meaning: typeof meaning === "string" ? meaning : meaning(fields) };
}

/** The fields of an event as `name=value`: addresses, registers and statuses in hex, counts in decimal. */
export function valuesOf(fields: EventFields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${typeof value === "bigint" ? hex(value) : String(value)}`)
    .join(" ");
}
