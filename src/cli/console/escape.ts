/** What the user asked the machine, not the guest, by Ctrl-A and a key. */
export type EscapeCommand = "end" | "help";

const CTRL_A = 0x01;

/** Parts the keys of a terminal into the guest's and ours: Ctrl-A x ends, Ctrl-A ? helps, Ctrl-A Ctrl-A is one Ctrl-A. */
export class EscapeFilter {
  #escaped = false;

  constructor(private readonly onCommand: (command: EscapeCommand) => void) {}

  /** Returns the bytes that are the guest's. */
  push(bytes: Iterable<number>): number[] {
    const guest: number[] = [];
    for (const byte of bytes) {
      if (!this.#escaped) {
        if (byte === CTRL_A) this.#escaped = true;
        else guest.push(byte);
        continue;
      }
      this.#escaped = false;
      const key = String.fromCharCode(byte).toLowerCase();
      if (key === "x") this.onCommand("end");
      else if (key === "?" || key === "h") this.onCommand("help");
      else if (byte === CTRL_A || key === "a") guest.push(CTRL_A);
    }
    return guest;
  }
}

export const ESCAPE_HELP = "Ctrl-A x ends the run, Ctrl-A Ctrl-A sends Ctrl-A; every other key is the guest's";
