import { describe, expect, it } from "vitest";
import { FLAG } from "../../fpu/format.js";
import { fromDecimal, toDecimal } from "./decimal.js";
import { type Bits, type RoundingControl, unpack } from "./extended.js";
import { arctangent, cosine, power, sine, tangent, yLog2x, yLog2xPlusOne } from "./functions.js";
import { remainder } from "./remainder.js";
import { extract, scale } from "./scale.js";

const NEAREST: RoundingControl = { mode: 0, underflowUnmasked: false, overflowUnmasked: false };
const TOP = 1n << 63n;

/** A register from a double. */
function from(value: number): Bits {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const sign = Number(bits >> 63n) << 15;
  const biased = Number((bits >> 52n) & 0x7ffn);
  const fraction = (bits & ((1n << 52n) - 1n)) << 11n;
  if (biased === 0) return { high: sign, significand: 0n };
  return { high: sign | (biased === 0x7ff ? 0x7fff : biased + 15360), significand: TOP | fraction };
}

function toNumber({ high, significand }: Bits): number {
  const exponent = high & 0x7fff;
  const sign = high >> 15 ? -1 : 1;
  if (exponent === 0x7fff) return significand === TOP ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (Number(significand) / 2 ** 63) * 2 ** (exponent - 16383);
}
const x = (value: number) => unpack(from(value));

describe("transcendental functions", () => {
  const arguments_ = [0.1, -0.7, 0.999, 1e-9, -1e-30, 3.14, -2.5, 100.25, 1e6, 2 ** -40];
  it.each(arguments_)("of %d agree with double precision", (value) => {
    const near = (bits: Bits, expected: number) =>
      expect(Math.abs(toNumber(bits) - expected)).toBeLessThanOrEqual(Math.abs(expected) * 1e-9);
    near(sine(x(value), NEAREST), Math.sin(value));
    near(cosine(x(value), NEAREST), Math.cos(value));
    near(tangent(x(value), NEAREST), Math.tan(value));
    near(arctangent(x(value), x(1), NEAREST), Math.atan(value));
    near(arctangent(x(value), x(-2), NEAREST), Math.atan2(value, -2));
    if (Math.abs(value) <= 1) near(power(x(value), NEAREST), Math.expm1(value * Math.LN2));
    near(yLog2x(x(3), x(Math.abs(value)), NEAREST), 3 * Math.log2(Math.abs(value)));
    if (value > -1) near(yLog2xPlusOne(x(3), x(value), NEAREST), (3 * Math.log1p(value)) / Math.LN2);
  });

  it.each<[string, () => Bits, number, bigint]>([
    ["4 atan 1 is pi", () => arctangent(x(0), x(-1), NEAREST), 0x4000, 0xc90f_daa2_2168_c235n],
    ["log2 10", () => yLog2x(x(1), x(10), NEAREST), 0x4000, 0xd49a_784b_cd1b_8afen],
    ["2^0.5 - 1", () => power(x(0.5), NEAREST), 0x3ffd, 0xd413_cccf_e779_9211n],
    ["2^-1 - 1", () => power(x(-1), NEAREST), 0xbffe, TOP],
    ["2 log2 8", () => yLog2x(x(2), x(8), NEAREST), 0x4001, 0xc000_0000_0000_0000n],
    ["sin of a tiny number", () => sine(x(2 ** -200), NEAREST), 0x3f37, TOP],
  ])("%s", (_, compute, high, significand) => {
    const result = compute();
    expect([result.high, result.significand]).toEqual([high, significand]);
  });

  it.each<[number, number, number, number]>([
    // y, x, y * log2 x, flags
    [1, 0, Number.NEGATIVE_INFINITY, FLAG.ZERO_DIVIDE],
    [-1, -0, Number.POSITIVE_INFINITY, FLAG.ZERO_DIVIDE],
    [0, 0, Number.NaN, FLAG.INVALID],
    [1, -1, Number.NaN, FLAG.INVALID],
    [Number.POSITIVE_INFINITY, 1, Number.NaN, FLAG.INVALID],
    [Number.POSITIVE_INFINITY, 0.5, Number.NEGATIVE_INFINITY, 0],
    [0, Number.POSITIVE_INFINITY, Number.NaN, FLAG.INVALID],
    [-0, 0.5, 0, 0],
    [-2, 1, -0, 0],
  ])("%d * log2 %d", (y, operand, expected, flags) => {
    const result = yLog2x(x(y), x(operand), NEAREST);
    expect([toNumber(result), result.flags]).toEqual([expected, flags]);
  });
});

describe("exact operations", () => {
  it.each<[number, number, boolean, number, number]>([
    [7, 2, false, 1, 0x4200],
    [7, 2, true, -1, 0x0100],
    [5, 2, true, 1, 0x4000],
    [-7.5, 2, false, -1.5, 0x4200],
    [0.5, 3, false, 0.5, 0],
    [2 ** 100, 3, false, 2 ** 64, 0x400],
  ])("remainder of %d by %d (nearest: %s)", (a, b, nearest, expected, codes) => {
    const found = remainder(x(a), x(b), nearest, NEAREST);
    expect(toNumber(found.result)).toBe(expected);
    expect(found.codes).toBe(codes);
  });

  it("scales and extracts", () => {
    expect(toNumber(scale(x(1.5), x(3.9), NEAREST))).toBe(12);
    expect(toNumber(scale(x(-1.5), x(-1.9), NEAREST))).toBe(-0.75);
    const parts = extract(x(-12), NEAREST);
    expect([toNumber(parts.exponent), toNumber(parts.significand)]).toEqual([3, -1.5]);
    expect(extract(x(0), NEAREST).exponent.flags).toBe(FLAG.ZERO_DIVIDE);
  });

  it("converts decimals", () => {
    const { bytes } = toDecimal(x(-1234567.5), 0);
    expect([...bytes]).toEqual([0x68, 0x45, 0x23, 0x01, 0, 0, 0, 0, 0, 0x80]);
    expect(fromDecimal(bytes)).toEqual({ sign: 1, magnitude: 1234568n });
    expect(toDecimal(x(1e18), 0).flags).toBe(FLAG.INVALID);
  });
});
