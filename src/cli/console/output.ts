import { closeSync, openSync, writeSync } from "node:fs";
import { fileError, systemCode } from "../errors.js";

/** Where the guest's console goes. */
export interface ConsoleOutput {
  /** Returns what is wrong when nothing more can be written: the system's code, EPIPE when the reader has gone. */
  write(bytes: Uint8Array): string | undefined;
  close(): void;
}

/** The console to one of our own streams; trouble with it is known at a later write. */
export function streamOutput(stream: NodeJS.WriteStream): ConsoleOutput {
  let trouble: string | undefined;
  const onError = (error: Error) => {
    trouble ??= systemCode(error) ?? error.message;
  };
  stream.on("error", onError);
  return {
    write(bytes) {
      if (trouble === undefined) stream.write(bytes);
      return trouble;
    },
    close() {
      stream.off("error", onError);
    },
  };
}

/** The console to a file, made anew. */
export function fileOutput(path: string): ConsoleOutput {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, "w");
  } catch (error) {
    throw fileError(error, "the console file", path);
  }
  return {
    write(bytes) {
      try {
        for (let at = 0; at < bytes.length && descriptor !== undefined; ) at += writeSync(descriptor, bytes, at);
      } catch (error) {
        throw fileError(error, "the console file", path);
      }
      return undefined;
    },
    close() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}
