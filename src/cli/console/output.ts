import { closeSync, openSync, writeSync } from "node:fs";
import { fileError } from "../errors.js";

/** Where the guest's console goes. */
export interface ConsoleOutput {
  /** Returns false when nothing more can be written. */
  write(bytes: Uint8Array): boolean;
  /** Writes what has been gathered. */
  flush(): void;
  close(): void;
}

const LINE_FEED = 0x0a;
const MOST_GATHERED = 4096;

/**
 * Gathers the bytes of a line, since a serial port delivers them one by one. What is no whole line is written when the machine's
 * slice is over.
 */
class LineGatherer {
  readonly #bytes = new Uint8Array(MOST_GATHERED);
  #length = 0;
  /** What went wrong when nobody was there to be told. */
  #trouble: unknown;

  constructor(private readonly emit: (bytes: Uint8Array) => void) {}

  push(bytes: Uint8Array): void {
    if (this.#trouble !== undefined) throw this.#trouble;
    for (const byte of bytes) {
      if (this.#length === 0) queueMicrotask(() => this.#flushLater());
      this.#bytes[this.#length++] = byte;
      if (byte === LINE_FEED || this.#length === MOST_GATHERED) this.flush();
    }
  }

  #flushLater(): void {
    try {
      this.flush();
    } catch (error) {
      this.#trouble = error;
    }
  }

  flush(): void {
    const gathered = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    if (gathered.length > 0) this.emit(gathered);
  }
}

/** The console to one of our own streams; trouble with it is known at a later write. */
export function streamOutput(stream: NodeJS.WriteStream): ConsoleOutput {
  let open = true;
  const onError = () => {
    open = false;
  };
  stream.on("error", onError);
  const gatherer = new LineGatherer((bytes) => stream.write(bytes));
  return {
    write(bytes) {
      if (open) gatherer.push(bytes);
      return open;
    },
    flush: () => gatherer.flush(),
    close() {
      gatherer.flush();
      stream.off("error", onError);
    },
  };
}

/** The console to a file, made anew. */
export function fileOutput(path: string): ConsoleOutput {
  const descriptor = orFileError(path, () => openSync(path, "w"));
  const gatherer = new LineGatherer((bytes) => {
    orFileError(path, () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
    });
  });
  let open = true;
  return {
    write(bytes) {
      gatherer.push(bytes);
      return true;
    },
    flush: () => gatherer.flush(),
    close() {
      if (!open) return;
      open = false;
      try {
        gatherer.flush();
      } finally {
        closeSync(descriptor);
      }
    },
  };
}

function orFileError<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw fileError(error, "the console file", path);
  }
}
