import { closeSync, openSync, writeSync } from "node:fs";
import { fileError } from "../errors.js";

/** Where the guest's console goes. */
export interface ConsoleOutput {
  /** Returns false when nothing more can be written. */
  write(bytes: Uint8Array): boolean;
  close(): void;
}

/** The console to one of our own streams; trouble with it is known at a later write. */
export function streamOutput(stream: NodeJS.WriteStream): ConsoleOutput {
  let open = true;
  const onError = () => {
    open = false;
  };
  stream.on("error", onError);
  return {
    write(bytes) {
      if (open) stream.write(bytes);
      return open;
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
      return true;
    },
    close() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}
