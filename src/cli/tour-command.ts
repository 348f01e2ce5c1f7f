import { story, storyAnswer } from "../guests/behaviours/story.js";
import { SMALL_TDS } from "../guests/small-tds.js";
import { parseInjection } from "../observe/injection/grammar.js";
import type { InjectionScheduler } from "../observe/injection/scheduler.js";
import { Story, type StoryLine } from "../observe/story.js";
import type { Layer } from "../platform/event-bus.js";
import { STATUS, UserError } from "./errors.js";
import { GuestCache } from "./guests/cache.js";
import { requireFamily } from "./guests/catalogue.js";
import { obtainGuest } from "./guests/fetch.js";
import type { Machine, MachineFactory } from "./machine.js";
import type { GuestExtras } from "./payload.js";
import { runCommand } from "./run-command.js";
import { parseRunRequest, RUN_DEFAULTS } from "./run-request.js";
import type { Speaker, Style } from "./speaker.js";
import { debianAnswer, TOUR_RC, TOUR_TEXT } from "./tour-script.js";

/** A guest that can act in the tour. */
interface Actor {
  readonly guest: string;
  readonly introduction: string;
  /** What it must answer, computed on this side. */
  readonly answer: () => string;
  readonly extras?: GuestExtras;
  /** Instructions from the word "computing" to each SMI. */
  readonly smisAfter: readonly number[];
}

const DEBIAN: Actor = {
  guest: "debian",
  introduction: "Debian's unmodified kernel boots in a TD; its console follows.",
  answer: debianAnswer,
  smisAfter: [2_000_000, 20_000_000, 40_000_000],
};

/** Boots a guest, lets SMIs and a memory error strike it, and tells what happens at every layer. Returns the exit status. */
export async function tourCommand(
  speaker: Speaker,
  createMachine: Promise<MachineFactory>,
  small: boolean,
): Promise<number> {
  return new Tour(await chooseActor(speaker, small), speaker).run(createMachine);
}

async function chooseActor(speaker: Speaker, small: boolean): Promise<Actor> {
  if (small) return SMALL;
  try {
    const cached = await obtainGuest(new GuestCache(), requireFamily(DEBIAN.guest), (line) => speaker.say(line));
    return { ...DEBIAN, extras: { rc: TOUR_RC, cached } };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    speaker.warn(`${error.message}; a small TD of our own tells the same story`);
    return SMALL;
  }
}

const SMALL: Actor = {
  guest: story.name,
  introduction: "A small TD of our own starts; its console follows.",
  answer: storyAnswer,
  smisAfter: [1_000_000, 5_000_000, 10_000_000],
};

const LINE_FEED = 0x0a;
/** Instructions from the words "going on" to the memory error. */
const STRIKE_AFTER = 1_000_000;

const LAYER_STYLE: Readonly<Record<Layer, Style>> = {
  cpu: "blue",
  platform: "cyan",
  module: "magenta",
  smm: "yellow",
  mce: "red",
  mm: "red",
  kvm: "green",
  vmm: "green",
};

class Tour {
  #line = "";
  /** The guest has given the right answer. */
  #right = false;
  #stage: "boot" | "computing" | "struck" = "boot";

  constructor(
    private readonly actor: Actor,
    private readonly speaker: Speaker,
  ) {}

  async run(createMachine: Promise<MachineFactory>): Promise<number> {
    const { actor, speaker } = this;
    const request = parseRunRequest(
      actor.guest,
      RUN_DEFAULTS,
      SMALL_TDS.map(({ name }) => name),
    );
    this.#chapter(actor.introduction);
    let followed: Story | undefined;
    const { status, outcome } = await runCommand(request, speaker, createMachine, {
      ...actor.extras,
      noInput: true,
      attach: (machine, scheduler) => {
        followed = new Story(machine.events, (line) => this.#tell(line));
        machine.onConsole((bytes) => this.#listen(bytes, machine, scheduler));
      },
    });
    if (outcome.outcome === "stopped" || followed === undefined) return status;
    return this.#conclude(followed, outcome.outcome);
  }

  #listen(bytes: Uint8Array, machine: Machine, scheduler: InjectionScheduler): void {
    for (const byte of bytes) {
      if (byte !== LINE_FEED) {
        this.#line += String.fromCharCode(byte);
        continue;
      }
      const line = this.#line;
      this.#line = "";
      this.#hear(line.trim(), machine, scheduler);
    }
  }

  #hear(line: string, machine: Machine, scheduler: InjectionScheduler): void {
    if (this.#stage === "boot" && line.startsWith(TOUR_TEXT.computing)) {
      this.#stage = "computing";
      this.#chapter(`While it computes, ${this.actor.smisAfter.length} plain SMIs strike. It must not notice.`);
      for (const after of this.actor.smisAfter) scheduler.add(parseInjection(`smi@insn=${machine.retired + after}`));
    }
    if (line.startsWith(TOUR_TEXT.answer)) this.#judge(line.slice(TOUR_TEXT.answer.length));
    if (this.#stage === "computing" && line.startsWith(TOUR_TEXT.goingOn)) {
      this.#stage = "struck";
      this.#chapter("Now an uncorrectable memory error strikes a private line that the guest is about to load.");
      scheduler.add(parseInjection(`memory-error@insn=${machine.retired + STRIKE_AFTER}`));
    }
  }

  #judge(answer: string): void {
    this.#right = answer === this.actor.answer();
    this.#chapter(this.#right ? "The answer is right: the SMIs have changed nothing." : "The answer is WRONG.");
  }

  #conclude(followed: Story, outcome: string): number {
    const faults: string[] = [];
    if (!this.#right) faults.push("the guest did not compute the right answer");
    if (followed.plainSmis < this.actor.smisAfter.length) faults.push("a plain SMI did not take its whole way");
    if (!followed.fatalStoryComplete)
      faults.push(`these steps are missing: ${followed.missing.join(", ") || "(order)"}`);
    if (outcome !== "td-fatal") faults.push(`the run ended as ${outcome}, not td-fatal`);
    if (faults.length > 0) {
      this.speaker.fail(`the tour did not go as it should: ${faults.join("; ")}`, "");
      return STATUS.failure;
    }
    this.#chapter("All as the patch says. Now it is your turn: npx seamless run debian");
    return STATUS.powerOff;
  }

  #chapter(text: string): void {
    this.speaker.tell(this.speaker.styled("bold", `── ${text}`));
  }

  #tell({ layer, event, values, meaning }: StoryLine): void {
    const { speaker } = this;
    const head = `${speaker.styled(LAYER_STYLE[layer], layer.padEnd(8))} ${event.padEnd(18)}`;
    speaker.tell(`   ${head} ${values === "" ? "" : `${values}  `}${speaker.styled("dim", meaning)}`);
  }
}
