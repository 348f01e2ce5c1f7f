import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { boots, QUICK_APPEND, whyNoGuest } from "./support.js";

const LAUNCHER = join(import.meta.dirname, "../../bin/seamless.js");

let reason: string | undefined;

beforeAll(async () => {
  const hasTerminal = spawnSync("script", ["--version"]).status === 0;
  reason = hasTerminal ? await whyNoGuest("debian") : "script(1), which gives a terminal, is not installed";
}, 300_000);

/** What to type when which text has appeared for the first time since the last typing. */
type Dialogue = readonly (readonly [seen: string, typed: string])[];

/** Runs Debian on a terminal and holds a dialogue with it. */
async function onTerminal(dialogue: Dialogue): Promise<{ status: number | null; text: string }> {
  const command = `'${process.execPath}' '${LAUNCHER}' run debian --append '${QUICK_APPEND}' --timeout 170`;
  const child = spawn("script", ["-qefc", command, "/dev/null"], { env: { ...process.env, TERM: "vt100" } });
  const steps = [...dialogue];
  let text = "";
  let searched = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const [seen, typed] = steps[0] ?? [];
    if (seen === undefined || typed === undefined || !text.includes(seen, searched)) return;
    searched = text.length;
    steps.shift();
    child.stdin.write(typed);
  });
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, text };
}

describe("Debian on a terminal", () => {
  it(
    "answers keys, gets Ctrl-C itself, and powers off",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, text } = await onTerminal([
        ["td:~#", "echo $((6 * 7))\r"],
        ["42", "echo sleeping; sleep 1000\r"],
        ["\nsleeping", "\x03"],
        ["td:~#", "echo interrupted=$?\r"],
        ["interrupted=130", "poweroff -f\r"],
      ]);
      expect(text).toContain("interrupted=130");
      expect(status).toBe(0);
    },
    boots(1),
  );

  it(
    "Ctrl-A ? helps, Ctrl-A x ends the run with status 130 and gives the terminal back",
    async (context) => {
      context.skip(reason !== undefined, reason);
      const { status, text } = await onTerminal([
        ["td:~#", "\x01?"],
        ["Ctrl-A x ends the run", "\x01x"],
      ]);
      expect(text).toContain("stopped after");
      expect(status).toBe(130);
    },
    boots(1),
  );
});
