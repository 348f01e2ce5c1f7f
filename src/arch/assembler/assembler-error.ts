/** What was asked for has no encoding, does not fit, or a label is missing. */
export class AssemblerError extends Error {
  override readonly name = "AssemblerError";
}
