/** Bytes for the guest's console. */
export interface ConsoleInput {
  /** Bytes come from a person's keys, at any time, rather than from a file or a pipe. */
  readonly isTerminal: boolean;
  /** More bytes may come. */
  readonly open: boolean;
  /** Takes the next byte, if one is there. */
  take(): number | undefined;
  /** Resolves when there is something to take, when input ends, or after this long. */
  wait(milliseconds: number): Promise<void>;
  /** The guest's driver listens now: the keys are its own from here on. */
  guestListens(): void;
  close(): void;
}

/** Input that is at its end from the start. */
export const NO_INPUT: ConsoleInput = {
  isTerminal: false,
  open: false,
  take: () => undefined,
  wait: async () => {},
  guestListens: () => {},
  close: () => {},
};

/** Bytes that have come and wait to be taken, and who waits for them. */
export class InputQueue {
  readonly #bytes: number[] = [];
  #open = true;
  #wake: (() => void) | undefined;

  get open(): boolean {
    return this.#open || this.#bytes.length > 0;
  }

  push(bytes: Iterable<number>): void {
    this.#bytes.push(...bytes);
    this.#wake?.();
  }

  end(): void {
    this.#open = false;
    this.#wake?.();
  }

  take(): number | undefined {
    return this.#bytes.shift();
  }

  /** Ends a wait early. */
  wake(): void {
    this.#wake?.();
  }

  wait(milliseconds: number): Promise<void> {
    if (this.#bytes.length > 0 || !this.#open) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#wake = done;
    });
  }
}
