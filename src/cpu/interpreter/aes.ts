import { i32, type V128 } from "../../wasm/expression.js";
import type { FunctionBuilder, FunctionReference } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { bytes16 } from "../isa/vector-form.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";

/** Reduction of x^8 in the field of AES (FIPS 197, 4.2): x^4 + x^3 + x + 1. */
const REDUCTION = 0x1b;

function multiply(a: number, b: number): number {
  let product = 0;
  for (let factor = a, rest = b; rest; rest >>= 1) {
    if (rest & 1) product ^= factor;
    factor = ((factor << 1) & 0xff) ^ (factor & 0x80 ? REDUCTION : 0);
  }
  return product;
}

/** The S-box (FIPS 197, 5.1.1): the inverse in the field, then an affine map. */
function substitutionBox(): number[] {
  const box: number[] = [];
  for (let value = 0; value < 256; value++) {
    // The group has 255 elements: the inverse is the 254th power.
    let inverse = 1;
    for (let n = 0; n < 254; n++) inverse = multiply(inverse, value);
    let mapped = 0x63;
    for (let n = 0; n < 5; n++) mapped ^= ((inverse << n) | (inverse >> (8 - n))) & 0xff;
    box.push(mapped);
  }
  return box;
}

/** All bytes through a table of 256: one shuffle for each 16 entries, which gives zero where the high half of a byte differs. */
function defineTable(module: ModuleBuilder, target: FunctionReference, table: readonly number[]): void {
  module.define(target, (f) => {
    const value = f.parameter(0, "v128").get;
    const result = f.local("v128");
    for (let first = 0; first < 256; first += 16) {
      const index = value.op("xor", bytes16(Array(16).fill(first)));
      f.set(result, result.get.op("or", bytes16(table.slice(first, first + 16)).op("swizzle", index)));
    }
    f.return(result.get);
  });
}

/** Every byte times x. */
function double(x: V128): V128 {
  const carry = x.shift("i8x16ShrS", i32(7)).op("and", bytes16(Array(16).fill(REDUCTION)));
  return x.shift("i8x16Shl", i32(1)).op("xor", carry);
}

/** Each byte becomes the one so many rows further in its column. */
function rows(x: V128, distance: number): V128 {
  return x.shuffle(
    x,
    Array.from({ length: 16 }, (_, n) => (n & 12) | ((n + distance) & 3)),
  );
}

/** 2 a(r) + 3 a(r+1) + a(r+2) + a(r+3). */
function mixColumns(f: FunctionBuilder, a: V128): V128 {
  const twice = f.tmp(double(a));
  const thrice = f.tmp(twice.op("xor", a));
  return twice.op("xor", rows(thrice, 1)).op("xor", rows(a, 2)).op("xor", rows(a, 3));
}

export function defineAes(module: ModuleBuilder, runtime: VectorRuntime): void {
  const box = substitutionBox();
  const inverse: number[] = [];
  for (const [value, mapped] of box.entries()) inverse[mapped] = value;
  defineTable(module, runtime.aesSubstitute, box);
  defineTable(module, runtime.aesSubstituteInverse, inverse);
  module.define(runtime.aesMixColumns, (f) => f.return(mixColumns(f, f.parameter(0, "v128").get)));
  module.define(runtime.aesMixColumnsInverse, (f) => {
    // The inverse matrix is the matrix times (5 0 4 0), row by row turned: a + 4 (a(r) + a(r+2)) first.
    const a = f.parameter(0, "v128").get;
    const sum = f.tmp(a.op("xor", rows(a, 2)));
    const twice = f.tmp(double(sum));
    f.return(mixColumns(f, f.tmp(a.op("xor", double(twice)))));
  });
}
