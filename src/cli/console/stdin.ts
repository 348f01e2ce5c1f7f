import type { ReadStream } from "node:tty";
import { type EscapeCommand, EscapeFilter } from "./escape.js";
import { type ConsoleInput, InputQueue } from "./input.js";

/**
 * The command's standard input as the guest's console input. A terminal goes raw when the guest begins to listen, so that
 * Ctrl-C and its like are the guest's from then on; it is given back in every way out.
 */
export function standardInput(onCommand: (command: EscapeCommand) => void): ConsoleInput {
  const { stdin } = process;
  return stdin.isTTY ? terminalInput(stdin, onCommand) : pipedInput(stdin);
}

function pipedInput(stdin: NodeJS.ReadStream): ConsoleInput {
  const queue = new InputQueue();
  stdin.on("data", (chunk: Buffer) => queue.push(chunk));
  stdin.on("end", () => queue.end());
  stdin.on("error", () => queue.end());
  return {
    isTerminal: false,
    get open() {
      return queue.open;
    },
    take: () => queue.take(),
    wait: (milliseconds) => queue.wait(milliseconds),
    guestListens: () => {},
    close: () => stdin.destroy(),
  };
}

function terminalInput(stdin: ReadStream, onCommand: (command: EscapeCommand) => void): ConsoleInput {
  const queue = new InputQueue();
  const filter = new EscapeFilter((command) => {
    onCommand(command);
    queue.wake();
  });
  const restore = () => {
    if (stdin.isRaw) stdin.setRawMode(false);
  };
  let listening = false;
  return {
    isTerminal: true,
    get open() {
      return queue.open;
    },
    take: () => queue.take(),
    wait: (milliseconds) => queue.wait(milliseconds),
    guestListens: () => {
      if (listening) return;
      listening = true;
      stdin.setRawMode(true);
      process.on("exit", restore);
      stdin.on("data", (chunk: Buffer) => queue.push(filter.push(chunk)));
      stdin.on("end", () => queue.end());
      stdin.on("error", () => queue.end());
    },
    close: () => {
      restore();
      process.off("exit", restore);
      stdin.destroy();
    },
  };
}
