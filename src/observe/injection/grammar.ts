/**
 * The grammar of an injection: `EVENT@WHEN[,key=value…]`.
 *
 *     EVENT  smi | csmi | memory-error | nmi
 *     WHEN   insn=N | insn=A..B/STEP | rip=ADDRESS | console="TEXT"
 *     keys   on=load|fetch and gpa=ADDRESS (memory-error), vcpu=N, broadcast
 */

export const INJECTION_EVENTS = ["smi", "csmi", "memory-error", "nmi"] as const;
export type InjectionEvent = (typeof INJECTION_EVENTS)[number];

/** When an injection fires. */
export type InjectionWhen =
  /** At the boundaries after `from`, `from + step`, … up to and including `to` retired instructions. */
  | { readonly kind: "insn"; readonly from: number; readonly to: number; readonly step: number }
  /** Once, before the instruction at this linear address first executes. */
  | { readonly kind: "rip"; readonly address: bigint }
  /** Once, when the console has printed this text for the first time. */
  | { readonly kind: "console"; readonly text: string };

/** The access that consumes a memory error. */
export type ConsumingAccess = "load" | "fetch";

export interface InjectionSpec {
  readonly event: InjectionEvent;
  readonly when: InjectionWhen;
  /** The text of `when` as it was given. */
  readonly whenText: string;
  readonly on: ConsumingAccess;
  /** Guest physical address of the line that a memory error strikes; undefined: the line of the next access. */
  readonly gpa?: number;
  /** The vCPU whose retired instructions count and that is struck; undefined: the sum, and whoever runs. */
  readonly vcpu?: number;
  /** Every logical processor gets the event. */
  readonly broadcast: boolean;
}

/** An injection that does not follow the grammar: what is wrong with which part, and what would be right. */
export class InjectionSyntaxError extends Error {
  override readonly name = "InjectionSyntaxError";

  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

const FORM = 'an injection is EVENT@WHEN[,key=value…], for example smi@insn=1000000 or memory-error@console="login:"';
const GPA_BITS = 52;
const WHEN_FORM = 'WHEN is insn=N, insn=A..B/STEP, rip=ADDRESS or console="TEXT"';

export function parseInjection(text: string): InjectionSpec {
  const at = text.indexOf("@");
  if (at < 0) throw new InjectionSyntaxError(`there is no "@" in ${quoted(text)}`, FORM);
  const event = parseEvent(text.slice(0, at));
  const { whenText, keysText } = splitWhen(text.slice(at + 1));
  return { event, when: parseWhen(whenText), whenText, ...parseKeys(event, keysText) };
}

function parseEvent(text: string): InjectionEvent {
  const event = INJECTION_EVENTS.find((each) => each === text);
  if (event !== undefined) return event;
  throw new InjectionSyntaxError(`there is no event ${quoted(text)}`, `EVENT is one of ${INJECTION_EVENTS.join(", ")}`);
}

const QUOTED_CONSOLE = /^console="((?:[^"\\]|\\.)*)"(?=,|$)/s;

/** Splits off the keys; a comma inside quotes belongs to the text. */
function splitWhen(text: string): { whenText: string; keysText: string | null } {
  const length = QUOTED_CONSOLE.exec(text)?.[0].length ?? (text.indexOf(",") < 0 ? text.length : text.indexOf(","));
  return { whenText: text.slice(0, length), keysText: length < text.length ? text.slice(length + 1) : null };
}

function parseWhen(text: string): InjectionWhen {
  const [name, value] = splitAtEquals(text);
  switch (name) {
    case "insn":
      return parseInsn(value);
    case "rip":
      return { kind: "rip", address: parseAddress("rip", value, 64) };
    case "console":
      return parseConsole(text, value);
    default:
      throw new InjectionSyntaxError(`${quoted(text)} does not say when`, WHEN_FORM);
  }
}

function parseInsn(value: string): InjectionWhen {
  const range = /^([^.]+)\.\.([^/]+)(?:\/(.+))?$/.exec(value);
  if (range === null) {
    const count = parseCount("insn", value);
    return { kind: "insn", from: count, to: count, step: 1 };
  }
  const [, fromText = "", toText = "", stepText] = range;
  if (stepText === undefined) {
    throw new InjectionSyntaxError(`insn=${value} has no step`, `write insn=${value}/STEP, for example /1000`);
  }
  const from = parseCount("insn", fromText);
  const to = parseCount("insn", toText);
  const step = parseCount("insn", stepText);
  if (step === 0) throw new InjectionSyntaxError(`the step of insn=${value} is 0`, "give a step of 1 or more");
  if (to < from)
    throw new InjectionSyntaxError(`insn=${value} ends before it begins`, "write the smaller number first");
  return { kind: "insn", from, to, step };
}

function parseConsole(whole: string, value: string): InjectionWhen {
  const match = QUOTED_CONSOLE.exec(whole);
  const badQuotes = match === null && value.includes('"');
  if (badQuotes) {
    throw new InjectionSyntaxError(
      `the quotes of ${quoted(whole)} do not match`,
      'write console="TEXT"; \\" is a quote in it',
    );
  }
  // A shell takes quotes away; what is left is the text.
  const text = match === null ? value : withoutEscapes(match[1] ?? "");
  if (text === "") throw new InjectionSyntaxError("console= has no text", 'write console="TEXT"');
  return { kind: "console", text };
}

function withoutEscapes(text: string): string {
  return text.replace(/\\(.)/gs, (_, character: string) => (character === "n" ? "\n" : character));
}

interface Keys {
  readonly on: ConsumingAccess;
  readonly gpa?: number;
  readonly vcpu?: number;
  readonly broadcast: boolean;
}

/** Which keys an event takes. */
const KEYS_OF: Readonly<Record<InjectionEvent, readonly string[]>> = {
  smi: ["vcpu", "broadcast"],
  csmi: ["vcpu", "broadcast"],
  nmi: ["vcpu", "broadcast"],
  "memory-error": ["on", "gpa", "vcpu", "broadcast"],
};

function parseKeys(event: InjectionEvent, text: string | null): Keys {
  const keys: { on: ConsumingAccess; gpa?: number; vcpu?: number; broadcast: boolean } = {
    on: "load",
    broadcast: false,
  };
  const seen = new Set<string>();
  for (const part of text?.split(",") ?? []) {
    const [name, value] = splitAtEquals(part);
    if (!KEYS_OF[event].includes(name)) {
      throw new InjectionSyntaxError(
        `${event} takes no key ${quoted(name)}`,
        `its keys are ${KEYS_OF[event].join(", ")}`,
      );
    }
    if (seen.has(name)) throw new InjectionSyntaxError(`the key ${name} is given twice`, "give it once");
    seen.add(name);
    if (name === "on") keys.on = parseAccess(value);
    if (name === "gpa") keys.gpa = Number(parseAddress("gpa", value, GPA_BITS));
    if (name === "vcpu") keys.vcpu = parseCount("vcpu", value);
    if (name === "broadcast") keys.broadcast = parseFlag(part);
  }
  if (seen.has("on") && seen.has("gpa")) {
    throw new InjectionSyntaxError(
      "on= and gpa= exclude each other",
      "gpa= names the line itself; on= picks the next access",
    );
  }
  return keys;
}

function parseAccess(value: string): ConsumingAccess {
  if (value === "load" || value === "fetch") return value;
  throw new InjectionSyntaxError(`on=${value} is no access`, "on is load or fetch");
}

function parseFlag(part: string): true {
  if (part === "broadcast") return true;
  throw new InjectionSyntaxError(`${quoted(part)}: broadcast takes no value`, "write broadcast alone");
}

function splitAtEquals(text: string): [string, string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

const NUMBER = /^(0x[0-9a-f]+|[0-9]+)$/i;

function parseCount(name: string, text: string): number {
  const digits = text.replaceAll("_", "");
  const value = NUMBER.test(digits) ? Number(digits) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new InjectionSyntaxError(
    `${name}=${text} is not a count`,
    "counts are whole numbers, decimal or 0x…; _ may group digits",
  );
}

function parseAddress(name: string, text: string, bits: number): bigint {
  const digits = text.replaceAll("_", "");
  if (NUMBER.test(digits)) {
    const value = BigInt(digits);
    if (value < 1n << BigInt(bits)) return value;
  }
  throw new InjectionSyntaxError(`${name}=${text} is not an address`, `addresses are 0x… of at most ${bits} bits`);
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
