/** Exit statuses of the command (docs/command.md). */
export const STATUS = {
  powerOff: 0,
  failure: 1,
  usage: 2,
  tdFatal: 3,
  guestFatal: 4,
  limit: 5,
  sighup: 129,
  sigint: 130,
  sigterm: 143,
} as const;

/** What a user meets when something cannot be done: a code for scripts, what is wrong and where, and what to do about it. */
export class UserError extends Error {
  override readonly name = "UserError";

  constructor(
    readonly code: string,
    message: string,
    readonly hint: string,
    readonly status: number = STATUS.failure,
  ) {
    super(message);
  }
}

/** A command line that says something we do not understand. */
export function usageError(code: string, message: string, hint: string): UserError {
  return new UserError(code, message, hint, STATUS.usage);
}

/** The system's code of a failed file or process operation (`ENOENT`), or undefined. */
export function systemCode(error: unknown): string | undefined {
  const isSystemError = error instanceof Error && !(error instanceof UserError) && "code" in error;
  return isSystemError && typeof error.code === "string" ? error.code : undefined;
}

const FILE_TROUBLE: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  ENOENT: ["does not exist", "check the path"],
  EACCES: ["may not be accessed", "check its permissions"],
  EPERM: ["may not be accessed", "check its permissions"],
  EISDIR: ["is a folder, not a file", "name a file"],
  ENOTDIR: ["lies below something that is not a folder", "check the path"],
  EROFS: ["lies on a read-only file system", "choose another place"],
  ENOSPC: ["could not be written: the disk is full", "free some space and run the command again"],
  EDQUOT: ["could not be written: the disk quota is used up", "free some space and run the command again"],
  EMFILE: ["could not be opened: too many open files", "raise the limit of open files (ulimit -n)"],
};

/** Turns a failed file operation on `path` into words. What is not a file error is passed through. */
export function fileError(error: unknown, what: string, path: string): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  const [trouble, hint] = FILE_TROUBLE[code] ?? [`could not be used (${code})`, "check the path"];
  return new UserError(`FILE_${code}`, `${what} ${path} ${trouble}`, hint);
}

/** A fault of our own, in words. With SEAMLESS_DEBUG set, the stack goes to stderr. */
export function internalTrouble(error: unknown): { code: string; message: string; hint: string } {
  if (error instanceof UserError) return { code: error.code, message: error.message, hint: error.hint };
  if (process.env.SEAMLESS_DEBUG !== undefined) console.error(error);
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    code: "INTERNAL",
    message: `the machine has a fault of its own: ${message}`,
    hint: "please report it with the command line; SEAMLESS_DEBUG=1 shows where it happened",
  };
}
