import { type I32, i32, i64, load, store, type V128, v128 } from "../../wasm/expression.js";
import { REG } from "../layout.js";
import type { Meaning } from "./meaning.js";

/** The value that an instruction gives its destination, from the old destination and the source. */
export type VectorCompute = (a: V128, b: V128, m: Meaning) => V128;

export const ZERO: V128 = v128(0n, 0n);

/** TOP is bits 13:11 of the x87 status word. */
const NOT_TOP = 0xc7ff;
const ALL_VALID = 0;

/** Every MMX instruction makes TOP 0 and, EMMS excepted, all x87 registers valid. */
export function enterMmx(m: Meaning): void {
  m.f.emit(store.i32_16(i32(REG.FSW), load.i32_16U(i32(REG.FSW)).and(NOT_TOP)));
  m.f.emit(store.i32_16(i32(REG.FTW), i32(ALL_VALID)));
}

/** dst := compute(dst, src) on XMM registers. */
export function sse(compute: VectorCompute): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const b = m.readVector(1);
    m.writeVector(0, compute(m.readVector(0), b, m));
  };
}

/** dst := compute(dst, src) on MMX registers, which are the low halves of the vectors; the high halves are zero. */
export function mmx(compute: VectorCompute): (m: Meaning) => void {
  return (m) => {
    m.requireMmx();
    const b = m.readVector(1);
    m.writeVector(0, compute(m.readVector(0), b, m));
    enterMmx(m);
  };
}

/** The immediate byte, zero-extended. */
export function immediateByte(m: Meaning): I32 {
  return m.f.tmp(m.immediate().toI32().and(0xff));
}

/** A vector of bytes, first byte first. */
export function bytes16(values: readonly number[]): V128 {
  return lanes(values, 8);
}

/** A vector of lanes of so many bits, lane 0 first. */
export function lanes(values: readonly number[], bits: number): V128 {
  const whole = values.reduce((sum, value, n) => sum | (BigInt.asUintN(bits, BigInt(value)) << BigInt(n * bits)), 0n);
  return v128(BigInt.asUintN(64, whole), whole >> 64n);
}

/** Byte lanes of a shuffle that takes whole elements of so many bytes; elements count through both operands. */
export function elements(size: number, order: readonly number[]): number[] {
  return order.flatMap((element) => Array.from({ length: size }, (_, n) => element * size + n));
}

/** Both MMX operands in one vector, the first one low. */
export function joined(a: V128, b: V128): V128 {
  return a.shuffle(b, elements(8, [0, 2]));
}

/** The low 64 bits with zeros above. */
export function lowHalf(a: V128): V128 {
  return a.withLane64(1, i64(0n));
}

/** 0..15, what a byte shuffle leaves in place. */
export const IDENTITY: readonly number[] = Array.from({ length: 16 }, (_, n) => n);
