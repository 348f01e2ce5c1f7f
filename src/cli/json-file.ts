import { renameSync, rmSync, writeFileSync } from "node:fs";
import { fileError } from "./errors.js";

/** Writes a document whole or not at all: beside its place first, then by rename. "-" is stdout. */
export function writeJson(place: string, document: unknown): void {
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (place === "-") {
    process.stdout.write(text);
    return;
  }
  const staged = `${place}.${process.pid}.tmp`;
  try {
    writeFileSync(staged, text);
    renameSync(staged, place);
  } catch (error) {
    rmSync(staged, { force: true });
    throw fileError(error, "the outcome file", place);
  }
}
