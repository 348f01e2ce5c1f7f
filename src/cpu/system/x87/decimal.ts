import { FLAG } from "../../fpu/format.js";
import { STATUS } from "../../fpu/x87-control.js";
import { REG } from "../../layout.js";
import type { SystemOperation } from "../environment.js";
import { cutOff, type Extended, round, roundingControl, unpack, zero } from "./extended.js";
import { begin, changeStatus, finish, isEmpty, pop, push, readStack, STACK_FAULT, start } from "./stack.js";

/** FBLD and FBSTP: eighteen packed decimal digits, the sign in the highest bit of ten bytes (SDM 1 4.7). */

const BYTES = 10;
const DIGIT_BYTES = 9;
const SIGN = 0x80;
const LIMIT = 10n ** 18n;
/** Packed BCD indefinite (SDM 1 table 4-4). */
const INDEFINITE = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff);

/** The digits' value. What is not a digit counts as its four bits. */
export function fromDecimal(bytes: Uint8Array): { sign: number; magnitude: bigint } {
  let magnitude = 0n;
  for (let n = DIGIT_BYTES - 1; n >= 0; n--) {
    const byte = bytes[n] as number;
    magnitude = magnitude * 100n + BigInt((byte >> 4) * 10 + (byte & 15));
  }
  return { sign: (bytes[BYTES - 1] as number) >> 7, magnitude };
}

interface Decimal {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly roundedUp: boolean;
}

const INVALID: Decimal = { bytes: INDEFINITE, flags: FLAG.INVALID, roundedUp: false };

export function toDecimal(value: Extended, mode: number): Decimal {
  const { kind, sign } = value;
  if (kind !== "zero" && (kind !== "finite" || value.exponent > 63)) return INVALID;
  const significand = kind === "zero" ? 0n : value.significand;
  const { kept, up, inexact } = cutOff(significand, kind === "zero" ? 0 : 63 - value.exponent, sign, mode);
  let rest = kept + (up ? 1n : 0n);
  if (rest >= LIMIT) return INVALID;
  const bytes = new Uint8Array(BYTES);
  for (let n = 0; n < DIGIT_BYTES; n++) {
    const pair = Number(rest % 100n);
    bytes[n] = (Math.floor(pair / 10) << 4) | (pair % 10);
    rest /= 100n;
  }
  bytes[BYTES - 1] = sign ? SIGN : 0;
  return { bytes, flags: inexact ? FLAG.PRECISION : 0, roundedUp: up };
}

const fbld: SystemOperation = (environment, instruction) => {
  begin(environment);
  const { state, linear } = environment;
  const bytes = linear.readBytes(environment.linearAddress(instruction, BYTES), BYTES);
  start(environment);
  const { sign, magnitude } = fromDecimal(bytes);
  const overflow = !isEmpty(state, 7);
  if (overflow) changeStatus(state, 0, STATUS.C1);
  const loaded = magnitude === 0n ? zero(sign) : round(sign, magnitude, 0, roundingControl(state.get16(REG.FCW)));
  const result = overflow ? STACK_FAULT : loaded;
  if (finish(state, result.flags, false)) push(state, result);
  return "next";
};

const fbstp: SystemOperation = (environment, instruction) => {
  begin(environment);
  const { state, linear } = environment;
  const address = environment.linearAddress(instruction, BYTES);
  linear.probeWrite(address, BYTES);
  start(environment);
  const { mode } = roundingControl(state.get16(REG.FCW));
  const result: Decimal = isEmpty(state, 0)
    ? { ...INVALID, flags: STACK_FAULT.flags }
    : toDecimal(unpack(readStack(state, 0)), mode);
  if (finish(state, result.flags, result.roundedUp, true)) {
    linear.writeBytes(address, result.bytes);
    pop(state);
  }
  return "next";
};

export const x87DecimalOperations: Readonly<Record<string, SystemOperation>> = { fbld, fbstp };
