import type { ByteWriter } from "./bytes.js";

/** Value types by their binary code. */
export const TYPE = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
export type ValueType = keyof typeof TYPE;

/**
 * A typed WebAssembly expression: a tree that is written out where it is used. A tree used twice is computed twice; what
 * is needed more than once is put into a temporary (`FunctionBuilder.tmp`).
 */
export abstract class Expression {
  abstract readonly type: ValueType;
  constructor(readonly emit: (out: ByteWriter) => void) {}
}

type Emit = (out: ByteWriter) => void;

const prefixed =
  (prefix: number, code: number): Emit =>
  (out) => {
    out.byte(prefix);
    out.unsigned(code);
  };

const apply = (operation: number | Emit, operands: readonly Expression[], immediate?: Emit): Emit => {
  return (out) => {
    for (const operand of operands) operand.emit(out);
    if (typeof operation === "number") out.byte(operation);
    else operation(out);
    immediate?.(out);
  };
};

const memoryImmediate =
  (alignment: number, offset: number): Emit =>
  (out) => {
    out.unsigned(alignment);
    out.unsigned(offset);
  };

export class I32 extends Expression {
  readonly type = "i32";
  /** The value, where the expression is a constant. */
  readonly constant: number | undefined;

  constructor(emit: Emit, constant?: number) {
    super(emit);
    this.constant = constant;
  }

  #binary(code: number, right: I32 | number, fold?: (a: number, b: number) => number): I32 {
    const other = typeof right === "number" ? i32(right) : right;
    if (fold && this.constant !== undefined && other.constant !== undefined)
      return i32(fold(this.constant, other.constant));
    return new I32(apply(code, [this, other]));
  }
  add(b: I32 | number): I32 {
    if (b === 0) return this;
    return this.#binary(0x6a, b, (x, y) => x + y);
  }
  sub(b: I32 | number): I32 {
    return this.#binary(0x6b, b, (x, y) => x - y);
  }
  mul(b: I32 | number): I32 {
    return this.#binary(0x6c, b, Math.imul);
  }
  divU(b: I32 | number): I32 {
    return this.#binary(0x6e, b);
  }
  remU(b: I32 | number): I32 {
    return this.#binary(0x70, b);
  }
  and(b: I32 | number): I32 {
    return this.#binary(0x71, b, (x, y) => x & y);
  }
  or(b: I32 | number): I32 {
    return this.#binary(0x72, b, (x, y) => x | y);
  }
  xor(b: I32 | number): I32 {
    return this.#binary(0x73, b, (x, y) => x ^ y);
  }
  shl(b: I32 | number): I32 {
    return this.#binary(0x74, b, (x, y) => x << y);
  }
  shrS(b: I32 | number): I32 {
    return this.#binary(0x75, b, (x, y) => x >> y);
  }
  shrU(b: I32 | number): I32 {
    return this.#binary(0x76, b, (x, y) => x >>> y);
  }
  rotl(b: I32 | number): I32 {
    return this.#binary(0x77, b);
  }
  eqz(): I32 {
    return new I32(apply(0x45, [this]));
  }
  eq(b: I32 | number): I32 {
    return this.#binary(0x46, b);
  }
  ne(b: I32 | number): I32 {
    return this.#binary(0x47, b);
  }
  ltS(b: I32 | number): I32 {
    return this.#binary(0x48, b);
  }
  ltU(b: I32 | number): I32 {
    return this.#binary(0x49, b);
  }
  gtS(b: I32 | number): I32 {
    return this.#binary(0x4a, b);
  }
  gtU(b: I32 | number): I32 {
    return this.#binary(0x4b, b);
  }
  leS(b: I32 | number): I32 {
    return this.#binary(0x4c, b);
  }
  leU(b: I32 | number): I32 {
    return this.#binary(0x4d, b);
  }
  geS(b: I32 | number): I32 {
    return this.#binary(0x4e, b);
  }
  geU(b: I32 | number): I32 {
    return this.#binary(0x4f, b);
  }
  clz(): I32 {
    return new I32(apply(0x67, [this]));
  }
  ctz(): I32 {
    return new I32(apply(0x68, [this]));
  }
  popcnt(): I32 {
    return new I32(apply(0x69, [this]));
  }
  extend8S(): I32 {
    return new I32(apply(0xc0, [this]));
  }
  extend16S(): I32 {
    return new I32(apply(0xc1, [this]));
  }
  toI64U(): I64 {
    return this.constant !== undefined ? i64(BigInt(this.constant >>> 0)) : new I64(apply(0xad, [this]));
  }
  toI64S(): I64 {
    return this.constant !== undefined ? i64(BigInt(this.constant)) : new I64(apply(0xac, [this]));
  }
  /** `this` is the condition: non-zero gives `a`. Both are always computed. */
  select<T extends Expression>(a: T, b: T): T {
    const make = a.constructor as new (emit: Emit) => T;
    return new make(apply(0x1b, [a, b, this]));
  }
  splat8x16(): V128 {
    return new V128(apply(prefixed(0xfd, 15), [this]));
  }
  splat16x8(): V128 {
    return new V128(apply(prefixed(0xfd, 16), [this]));
  }
  splat32x4(): V128 {
    return new V128(apply(prefixed(0xfd, 17), [this]));
  }
  reinterpretF32(): F32 {
    return new F32(apply(0xbe, [this]));
  }
}

export class I64 extends Expression {
  readonly type = "i64";
  readonly constant: bigint | undefined;

  constructor(emit: Emit, constant?: bigint) {
    super(emit);
    this.constant = constant;
  }

  #binary(code: number, right: I64 | bigint, fold?: (a: bigint, b: bigint) => bigint): I64 {
    const other = typeof right === "bigint" ? i64(right) : right;
    if (fold && this.constant !== undefined && other.constant !== undefined)
      return i64(fold(this.constant, other.constant));
    return new I64(apply(code, [this, other]));
  }
  #compare(code: number, right: I64 | bigint): I32 {
    return new I32(apply(code, [this, typeof right === "bigint" ? i64(right) : right]));
  }
  add(b: I64 | bigint): I64 {
    if (b === 0n) return this;
    return this.#binary(0x7c, b, (x, y) => x + y);
  }
  sub(b: I64 | bigint): I64 {
    return this.#binary(0x7d, b, (x, y) => x - y);
  }
  mul(b: I64 | bigint): I64 {
    return this.#binary(0x7e, b, (x, y) => x * y);
  }
  divS(b: I64 | bigint): I64 {
    return this.#binary(0x7f, b);
  }
  divU(b: I64 | bigint): I64 {
    return this.#binary(0x80, b);
  }
  remS(b: I64 | bigint): I64 {
    return this.#binary(0x81, b);
  }
  remU(b: I64 | bigint): I64 {
    return this.#binary(0x82, b);
  }
  and(b: I64 | bigint): I64 {
    return this.#binary(0x83, b, (x, y) => x & y);
  }
  or(b: I64 | bigint): I64 {
    return this.#binary(0x84, b, (x, y) => x | y);
  }
  xor(b: I64 | bigint): I64 {
    return this.#binary(0x85, b, (x, y) => x ^ y);
  }
  not(): I64 {
    return this.xor(-1n);
  }
  neg(): I64 {
    return i64(0n).sub(this);
  }
  shl(b: I64 | bigint): I64 {
    if (b === 0n) return this;
    return this.#binary(0x86, b, (x, y) => x << (y & 63n));
  }
  shrS(b: I64 | bigint): I64 {
    return this.#binary(0x87, b);
  }
  shrU(b: I64 | bigint): I64 {
    return this.#binary(0x88, b);
  }
  rotl(b: I64 | bigint): I64 {
    return this.#binary(0x89, b);
  }
  rotr(b: I64 | bigint): I64 {
    return this.#binary(0x8a, b);
  }
  eqz(): I32 {
    return new I32(apply(0x50, [this]));
  }
  eq(b: I64 | bigint): I32 {
    return this.#compare(0x51, b);
  }
  ne(b: I64 | bigint): I32 {
    return this.#compare(0x52, b);
  }
  ltS(b: I64 | bigint): I32 {
    return this.#compare(0x53, b);
  }
  ltU(b: I64 | bigint): I32 {
    return this.#compare(0x54, b);
  }
  gtS(b: I64 | bigint): I32 {
    return this.#compare(0x55, b);
  }
  gtU(b: I64 | bigint): I32 {
    return this.#compare(0x56, b);
  }
  leS(b: I64 | bigint): I32 {
    return this.#compare(0x57, b);
  }
  leU(b: I64 | bigint): I32 {
    return this.#compare(0x58, b);
  }
  geS(b: I64 | bigint): I32 {
    return this.#compare(0x59, b);
  }
  geU(b: I64 | bigint): I32 {
    return this.#compare(0x5a, b);
  }
  clz(): I64 {
    return new I64(apply(0x79, [this]));
  }
  ctz(): I64 {
    return new I64(apply(0x7a, [this]));
  }
  popcnt(): I64 {
    return new I64(apply(0x7b, [this]));
  }
  toI32(): I32 {
    return this.constant !== undefined ? i32(Number(BigInt.asIntN(32, this.constant))) : new I32(apply(0xa7, [this]));
  }
  extend8S(): I64 {
    return this.constant !== undefined ? i64(BigInt.asIntN(8, this.constant)) : new I64(apply(0xc2, [this]));
  }
  extend16S(): I64 {
    return this.constant !== undefined ? i64(BigInt.asIntN(16, this.constant)) : new I64(apply(0xc3, [this]));
  }
  extend32S(): I64 {
    return this.constant !== undefined ? i64(BigInt.asIntN(32, this.constant)) : new I64(apply(0xc4, [this]));
  }
  splat64x2(): V128 {
    return new V128(apply(prefixed(0xfd, 18), [this]));
  }
  reinterpretF64(): F64 {
    return new F64(apply(0xbf, [this]));
  }
}

export class F32 extends Expression {
  readonly type = "f32";
  reinterpretI32(): I32 {
    return new I32(apply(0xbc, [this]));
  }
}

export class F64 extends Expression {
  readonly type = "f64";
  #binary(code: number, b: F64): F64 {
    return new F64(apply(code, [this, b]));
  }
  add(b: F64): F64 {
    return this.#binary(0xa0, b);
  }
  sub(b: F64): F64 {
    return this.#binary(0xa1, b);
  }
  mul(b: F64): F64 {
    return this.#binary(0xa2, b);
  }
  div(b: F64): F64 {
    return this.#binary(0xa3, b);
  }
  sqrt(): F64 {
    return new F64(apply(0x9f, [this]));
  }
  reinterpretI64(): I64 {
    return new I64(apply(0xbd, [this]));
  }
}

/** SIMD operations by name: opcode behind the 0xfd prefix (WebAssembly SIMD binary encoding). */
const SIMD_BINARY = {
  swizzle: 14,
  i8x16Eq: 35,
  i8x16GtS: 39,
  i16x8Eq: 45,
  i16x8GtS: 49,
  i32x4Eq: 55,
  i32x4GtS: 59,
  i64x2Eq: 214,
  i64x2GtS: 217,
  and: 78,
  andnot: 79,
  or: 80,
  xor: 81,
  i8x16NarrowS: 101,
  i8x16NarrowU: 102,
  i8x16Add: 110,
  i8x16AddSatS: 111,
  i8x16AddSatU: 112,
  i8x16Sub: 113,
  i8x16SubSatS: 114,
  i8x16SubSatU: 115,
  i8x16MinS: 118,
  i8x16MinU: 119,
  i8x16MaxS: 120,
  i8x16MaxU: 121,
  i8x16AvgrU: 123,
  i16x8NarrowS: 133,
  i16x8NarrowU: 134,
  i16x8Add: 142,
  i16x8AddSatS: 143,
  i16x8AddSatU: 144,
  i16x8Sub: 145,
  i16x8SubSatS: 146,
  i16x8SubSatU: 147,
  i16x8Mul: 149,
  i16x8MinS: 150,
  i16x8MinU: 151,
  i16x8MaxS: 152,
  i16x8MaxU: 153,
  i16x8AvgrU: 155,
  i16x8Q15MulrSatS: 130,
  i32x4Add: 174,
  i32x4Sub: 177,
  i32x4Mul: 181,
  i32x4MinS: 182,
  i32x4MinU: 183,
  i32x4MaxS: 184,
  i32x4MaxU: 185,
  i32x4DotI16x8S: 186,
  i64x2Add: 206,
  i64x2Sub: 209,
  i64x2Mul: 213,
  i16x8ExtmulLowI8x16S: 156,
  i16x8ExtmulHighI8x16S: 157,
  i16x8ExtmulLowI8x16U: 158,
  i16x8ExtmulHighI8x16U: 159,
  i32x4ExtmulLowI16x8S: 188,
  i32x4ExtmulHighI16x8S: 189,
  i32x4ExtmulLowI16x8U: 190,
  i32x4ExtmulHighI16x8U: 191,
  i64x2ExtmulLowI32x4S: 220,
  i64x2ExtmulHighI32x4S: 221,
  i64x2ExtmulLowI32x4U: 222,
  i64x2ExtmulHighI32x4U: 223,
} as const;
export type SimdBinary = keyof typeof SIMD_BINARY;

const SIMD_UNARY = {
  not: 77,
  i8x16Abs: 96,
  i8x16Neg: 97,
  i8x16Popcnt: 98,
  i16x8Abs: 128,
  i16x8Neg: 129,
  i16x8ExtendLowI8x16S: 135,
  i16x8ExtendHighI8x16S: 136,
  i16x8ExtendLowI8x16U: 137,
  i16x8ExtendHighI8x16U: 138,
  i32x4Abs: 160,
  i32x4Neg: 161,
  i32x4ExtendLowI16x8S: 167,
  i32x4ExtendHighI16x8S: 168,
  i32x4ExtendLowI16x8U: 169,
  i32x4ExtendHighI16x8U: 170,
  i64x2Abs: 192,
  i64x2Neg: 193,
  i64x2ExtendLowI32x4S: 199,
  i64x2ExtendHighI32x4S: 200,
  i64x2ExtendLowI32x4U: 201,
  i64x2ExtendHighI32x4U: 202,
  i16x8ExtaddPairwiseI8x16S: 124,
  i16x8ExtaddPairwiseI8x16U: 125,
  i32x4ExtaddPairwiseI16x8S: 126,
  i32x4ExtaddPairwiseI16x8U: 127,
} as const;
export type SimdUnary = keyof typeof SIMD_UNARY;

const SIMD_SHIFT = {
  i8x16Shl: 107,
  i8x16ShrS: 108,
  i8x16ShrU: 109,
  i16x8Shl: 139,
  i16x8ShrS: 140,
  i16x8ShrU: 141,
  i32x4Shl: 171,
  i32x4ShrS: 172,
  i32x4ShrU: 173,
  i64x2Shl: 203,
  i64x2ShrS: 204,
  i64x2ShrU: 205,
} as const;
export type SimdShift = keyof typeof SIMD_SHIFT;

const SIMD_TO_I32 = {
  anyTrue: 83,
  i8x16AllTrue: 99,
  i8x16Bitmask: 100,
  i16x8AllTrue: 131,
  i16x8Bitmask: 132,
  i32x4AllTrue: 163,
  i32x4Bitmask: 164,
  i64x2AllTrue: 195,
  i64x2Bitmask: 196,
} as const;

export class V128 extends Expression {
  readonly type = "v128";

  /** Any two-operand operation by name. */
  op(name: SimdBinary, b: V128): V128 {
    return new V128(apply(prefixed(0xfd, SIMD_BINARY[name]), [this, b]));
  }
  unary(name: SimdUnary): V128 {
    return new V128(apply(prefixed(0xfd, SIMD_UNARY[name]), [this]));
  }
  /** Shifts each lane; the count is taken modulo the lane width. */
  shift(name: SimdShift, count: I32): V128 {
    return new V128(apply(prefixed(0xfd, SIMD_SHIFT[name]), [this, count]));
  }
  test(name: keyof typeof SIMD_TO_I32): I32 {
    return new I32(apply(prefixed(0xfd, SIMD_TO_I32[name]), [this]));
  }
  /** Bytes 0..15 of this, 16..31 of b. */
  shuffle(b: V128, lanes: readonly number[]): V128 {
    return new V128(apply(prefixed(0xfd, 13), [this, b], (out) => out.raw(lanes)));
  }
  /** Bitwise choice: bits of this where the mask is 1, else of b. */
  bitselect(b: V128, mask: V128): V128 {
    return new V128(apply(prefixed(0xfd, 82), [this, b, mask]));
  }
  #lane(code: number, lane: number): Emit {
    return apply(prefixed(0xfd, code), [this], (out) => out.byte(lane));
  }
  lane8U(lane: number): I32 {
    return new I32(this.#lane(22, lane));
  }
  lane16U(lane: number): I32 {
    return new I32(this.#lane(25, lane));
  }
  lane32(lane: number): I32 {
    return new I32(this.#lane(27, lane));
  }
  lane64(lane: number): I64 {
    return new I64(this.#lane(29, lane));
  }
  #replace(code: number, lane: number, value: Expression): V128 {
    return new V128(apply(prefixed(0xfd, code), [this, value], (out) => out.byte(lane)));
  }
  withLane8(lane: number, value: I32): V128 {
    return this.#replace(23, lane, value);
  }
  withLane16(lane: number, value: I32): V128 {
    return this.#replace(26, lane, value);
  }
  withLane32(lane: number, value: I32): V128 {
    return this.#replace(28, lane, value);
  }
  withLane64(lane: number, value: I64): V128 {
    return this.#replace(30, lane, value);
  }
}

export const i32 = (value: number): I32 =>
  new I32((out) => {
    out.byte(0x41);
    out.signed32(value);
  }, value | 0);

export const i64 = (value: bigint): I64 =>
  new I64(
    (out) => {
      out.byte(0x42);
      out.signed64(value);
    },
    BigInt.asIntN(64, value),
  );

export const v128 = (low: bigint, high: bigint): V128 =>
  new V128((out) => {
    out.raw([0xfd, 12]);
    for (const half of [low, high]) for (let n = 0n; n < 64n; n += 8n) out.byte(Number((half >> n) & 0xffn));
  });

/** Loads; the address is a WebAssembly address, the offset a constant added to it. */
export const load = {
  i32: (at: I32, offset = 0): I32 => new I32(apply(0x28, [at], memoryImmediate(0, offset))),
  i64: (at: I32, offset = 0): I64 => new I64(apply(0x29, [at], memoryImmediate(0, offset))),
  i32_8S: (at: I32, offset = 0): I32 => new I32(apply(0x2c, [at], memoryImmediate(0, offset))),
  i32_8U: (at: I32, offset = 0): I32 => new I32(apply(0x2d, [at], memoryImmediate(0, offset))),
  i32_16S: (at: I32, offset = 0): I32 => new I32(apply(0x2e, [at], memoryImmediate(0, offset))),
  i32_16U: (at: I32, offset = 0): I32 => new I32(apply(0x2f, [at], memoryImmediate(0, offset))),
  i64_8S: (at: I32, offset = 0): I64 => new I64(apply(0x30, [at], memoryImmediate(0, offset))),
  i64_8U: (at: I32, offset = 0): I64 => new I64(apply(0x31, [at], memoryImmediate(0, offset))),
  i64_16S: (at: I32, offset = 0): I64 => new I64(apply(0x32, [at], memoryImmediate(0, offset))),
  i64_16U: (at: I32, offset = 0): I64 => new I64(apply(0x33, [at], memoryImmediate(0, offset))),
  i64_32S: (at: I32, offset = 0): I64 => new I64(apply(0x34, [at], memoryImmediate(0, offset))),
  i64_32U: (at: I32, offset = 0): I64 => new I64(apply(0x35, [at], memoryImmediate(0, offset))),
  v128: (at: I32, offset = 0): V128 => new V128(apply(prefixed(0xfd, 0), [at], memoryImmediate(0, offset))),
};

/** Stores, as emitters for `FunctionBuilder.emit`. */
export const store = {
  i32: (at: I32, value: I32, offset = 0): Emit => apply(0x36, [at, value], memoryImmediate(0, offset)),
  i64: (at: I32, value: I64, offset = 0): Emit => apply(0x37, [at, value], memoryImmediate(0, offset)),
  i32_8: (at: I32, value: I32, offset = 0): Emit => apply(0x3a, [at, value], memoryImmediate(0, offset)),
  i32_16: (at: I32, value: I32, offset = 0): Emit => apply(0x3b, [at, value], memoryImmediate(0, offset)),
  i64_8: (at: I32, value: I64, offset = 0): Emit => apply(0x3c, [at, value], memoryImmediate(0, offset)),
  i64_16: (at: I32, value: I64, offset = 0): Emit => apply(0x3d, [at, value], memoryImmediate(0, offset)),
  i64_32: (at: I32, value: I64, offset = 0): Emit => apply(0x3e, [at, value], memoryImmediate(0, offset)),
  v128: (at: I32, value: V128, offset = 0): Emit => apply(prefixed(0xfd, 11), [at, value], memoryImmediate(0, offset)),
};

/** memory.fill and memory.copy. */
export const bulk = {
  fill: (at: I32, value: I32, length: I32): Emit =>
    apply(prefixed(0xfc, 11), [at, value, length], (out) => out.byte(0)),
  copy: (to: I32, from: I32, length: I32): Emit =>
    apply(prefixed(0xfc, 10), [to, from, length], (out) => out.raw([0, 0])),
};
