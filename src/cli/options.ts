import { type InjectionSpec, InjectionSyntaxError, parseInjection } from "../observe/injection/grammar.js";
import { MAX_MEMORY, MIN_MEMORY } from "../vmm/boot/memory-map.js";
import { type UserError, usageError } from "./errors.js";

/** Values of options: text from the command line into what it means, or a usage error that says what is wrong. */

const MIB = 2 ** 20;
const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: MIB, G: 2 ** 30 };

/** `512M`, `1G`, `1.5G`, or bytes. Whole MiB between 128M and 3G. */
export function parseMemory(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG])?(?:i?B)?$/i.exec(text);
  if (match === null) throw badValue("--memory", text, "is not a size", "sizes are like 512M or 1G");
  const bytes = Number(match[1]) * (UNITS[(match[2] ?? "").toUpperCase()] ?? 1);
  if (bytes < MIN_MEMORY || bytes > MAX_MEMORY) {
    throw badValue("--memory", text, "is out of range", "a TD may have 128M to 3G");
  }
  if (bytes % MIB !== 0) throw badValue("--memory", text, "is not whole MiB", "sizes are like 512M or 1G");
  return bytes;
}

/** A whole number from `min` to `max`; decimal or 0x…, `_` may group digits. */
export function parseCount(option: string, text: string, min: number, max: number): number {
  const digits = text.replaceAll("_", "");
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(digits) ? Number(digits) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : min === max ? `only ${min}` : `${min} to ${max}`;
  throw badValue(option, text, "is not a number that fits", `it takes a whole number: ${range}`);
}

/** Seconds, fractions allowed. */
export function parseSeconds(option: string, text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value > 0 && value <= 1e7) return value;
  throw badValue(option, text, "is not a time", "it takes seconds, for example 30 or 2.5");
}

/** A 64-bit unsigned number. */
export function parseSeed(text: string): bigint {
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text)) {
    const value = BigInt(text);
    if (value < 1n << 64n) return value;
  }
  throw badValue("--seed", text, "is not a seed", "a seed is a whole number below 2^64");
}

/** A date and time in UTC, or seconds since 1970. Returns seconds since 1970. */
export function parseRtc(text: string): number {
  const iso = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?Z?$/;
  const seconds = /^\d+$/.test(text) ? Number(text) : iso.test(text) ? utcSeconds(text) : Number.NaN;
  if (seconds >= 0 && seconds < utcSeconds("2100-01-01")) return seconds;
  throw badValue("--rtc", text, "is not a time", "times are like 2025-02-11T00:00:00 (UTC), before the year 2100");
}

function utcSeconds(text: string): number {
  const [date = "", time = "00:00"] = text.replace(/Z$/, "").split(/[T ]/);
  return Date.parse(`${date}T${time}Z`) / 1000;
}

/** One of a few words. */
export function parseChoice<const T extends string>(option: string, text: string, choices: readonly T[]): T {
  const choice = choices.find((each) => each === text);
  if (choice !== undefined) return choice;
  throw badValue(option, text, "is not one of its values", `it takes ${choices.join(" or ")}`);
}

export function parseSwitch(option: string, text: string): boolean {
  return parseChoice(option, text, ["on", "off"]) === "on";
}

export function parseInject(text: string): InjectionSpec {
  try {
    return parseInjection(text);
  } catch (error) {
    if (!(error instanceof InjectionSyntaxError)) throw error;
    throw usageError("BAD_INJECTION", `--inject ${text}: ${error.message}`, error.hint);
  }
}

function badValue(option: string, text: string, what: string, hint: string): UserError {
  return usageError("BAD_VALUE", `${option} ${JSON.stringify(text)} ${what}`, hint);
}
