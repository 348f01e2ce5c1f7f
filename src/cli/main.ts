import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { SMALL_TDS } from "../guests/small-tds.js";
import { internalTrouble, STATUS, systemCode, UserError, usageError } from "./errors.js";
import { fetchGuests, listGuests, removeGuests } from "./guests-command.js";
import type { MachineFactory } from "./machine.js";
import { runCommand } from "./run-command.js";
import { DEFAULT_APPEND, parseRunRequest, RUN_DEFAULTS, type RunOptions } from "./run-request.js";
import { Speaker } from "./speaker.js";
import { tourCommand } from "./tour-command.js";

const WHEN = `EVENT@WHEN[,key=value…]: EVENT is smi, csmi, memory-error or nmi; WHEN is insn=N, insn=A..B/STEP,
rip=ADDRESS or console="TEXT"; keys are on=load|fetch, gpa=ADDRESS, vcpu=N, broadcast; repeatable`;

/** The command. Sets the process's exit status; nothing that a user does ends in a stack trace. */
export async function main(args: readonly string[]): Promise<void> {
  process.exitCode = 0;
  process.stdout.on("error", stdoutFailed);
  process.on("uncaughtException", fail);
  try {
    await program().parseAsync(args, { from: "user" });
  } catch (error) {
    fail(error);
  }
}

/** A reader that goes away is no fault worth a word; a full disk is. */
function stdoutFailed(error: Error): void {
  const code = systemCode(error);
  if (code === "EPIPE") return;
  fail(new UserError("STDOUT", `stdout could not be written (${code ?? error.message})`, "check where it goes"));
}

function fail(error: unknown): void {
  const speaker = new Speaker(process.stderr, false);
  if (error instanceof CommanderError) {
    process.exitCode = commanderStatus(error, speaker);
    return;
  }
  const { message, hint } = internalTrouble(error);
  speaker.fail(message, hint);
  process.exitCode = error instanceof UserError ? error.status : STATUS.failure;
}

/** Help and the version end well; whatever else commander has to say is about usage. */
function commanderStatus(error: CommanderError, speaker: Speaker): number {
  if (error.exitCode === 0) return 0;
  const [what = "", ...more] = error.message.replace(/^error: /, "").split("\n");
  if (error.code !== "commander.help") {
    speaker.fail(what, more.join(" ").trim() || "`seamless --help` and `seamless run --help` show what there is");
  }
  return STATUS.usage;
}

function program(): Command {
  const command = new Command("seamless")
    .description("a TDX machine: runs unmodified Intel TDX guests with no TDX hardware")
    .version(version())
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .showSuggestionAfterError();
  addRun(command);
  addTour(command);
  addGuests(command);
  return command;
}

function addRun(command: Command): void {
  command
    .command("run")
    .description("boot a guest; its console is on stdout, everything else on stderr")
    .argument("[GUEST]", "debian (= debian:6.12), debian:6.18, debian:7, or a small TD (see `seamless guests list`)")
    .option("--kernel <FILE>", "boot this bzImage")
    .option("--initrd <FILE>", "with this initial RAM disk")
    .option("--append <TEXT>", `kernel command line (default: ${DEFAULT_APPEND})`)
    .option("--memory <SIZE>", "128M to 3G", RUN_DEFAULTS.memory)
    .option("--vcpus <N>", "number of vCPUs", RUN_DEFAULTS.vcpus)
    .option("--module-profile <P>", "1.5, 1.0 or changelog", RUN_DEFAULTS.moduleProfile)
    .option("--host-profile <P>", "fixed or linux-6.16", RUN_DEFAULTS.hostProfile)
    .option("--emca <on|off>", "firmware morphs machine checks into SMIs", RUN_DEFAULTS.emca)
    .option("--filter <on|off>", "the module's single-step filter", RUN_DEFAULTS.filter)
    .option("--seed <N>", "seed of everything random", RUN_DEFAULTS.seed)
    .option("--rtc <TIME>", "what the clock shows at power-on (UTC)", RUN_DEFAULTS.rtc)
    .option("--max-insns <N>", "end after exactly N guest instructions")
    .option("--timeout <SECONDS>", "end after this much wall time")
    .option("--inject <INJECTION>", WHEN, collect)
    .option("--json <FILE>", "write the outcome there; - is stdout, the console then goes to stderr")
    .option("--console <FILE>", "write the console there instead of to stdout")
    .option("--quiet", "no progress and no closing line on stderr")
    .action(async (guest: string | undefined, options: RunOptions) => {
      const request = parseRunRequest(
        guest,
        options,
        SMALL_TDS.map(({ name }) => name),
      );
      const { status } = await runCommand(request, new Speaker(process.stderr, request.quiet), loadMachine());
      process.exitCode = status;
    });
}

function addTour(command: Command): void {
  command
    .command("tour")
    .description("boot Debian in a TD, let SMIs and a memory error strike it, and tell what happens at every layer")
    .option("--small", "tell the story on a small TD of our own, without Debian's packages")
    .action(async ({ small }: { small?: boolean }) => {
      process.exitCode = await tourCommand(new Speaker(process.stderr, false), loadMachine(), small ?? false);
    });
}

function addGuests(command: Command): void {
  const speaker = () => new Speaker(process.stderr, false);
  const guests = command.command("guests").description("Debian's guests in the user's cache folder");
  guests
    .command("list", { isDefault: true })
    .description("what there is, and what is cached")
    .action(() => listGuests(SMALL_TDS));
  guests
    .command("fetch")
    .description("fetch the newest kernel of each named guest through apt (default: debian)")
    .argument("[GUEST...]")
    .action((names: string[]) => fetchGuests(names, speaker()));
  guests
    .command("remove")
    .description("remove guests from the cache")
    .argument("[GUEST...]")
    .option("--all", "remove all of them")
    .action((names: string[], { all }: { all?: boolean }) => removeGuests(names, all ?? false, speaker()));
}

/** The machine is most of the code, and only a run needs it; it loads while the guest is read. */
async function loadMachine(): Promise<MachineFactory> {
  const { createMachine } = await import("./create-machine.js");
  return createMachine;
}

function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

function version(): string {
  const parsed: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const found = typeof parsed === "object" && parsed !== null && "version" in parsed ? parsed.version : undefined;
  if (typeof found !== "string")
    throw usageError("BAD_PACKAGE", "package.json has no version", "install the package again");
  return found;
}
