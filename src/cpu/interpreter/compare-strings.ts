import { type I32, i32, type V128 } from "../../wasm/expression.js";
import type { FunctionBuilder } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { bytes16, lanes } from "../isa/vector-form.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";

/** Bits of the immediate (SDM 2B, "Imm8 Control Byte Operation for PCMPESTRI / PCMPESTRM / PCMPISTRI / PCMPISTRM"). */
const CONTROL = { WORDS: 0x01, SIGNED: 0x02, NEGATIVE: 0x10, MASKED: 0x20 } as const;
/** How comparisons of elements are combined: bits 3:2. */
const AGGREGATION = { ANY: 0, RANGES: 1, EACH: 2, ORDERED: 3 } as const;

interface Elements {
  readonly count: number;
  equal(a: V128, b: V128): I32;
  /** Bits of the elements of x that are not above y. */
  notAbove(x: V128, y: V128): I32;
  /** Element n in every place. */
  spread(a: V128, n: I32): V128;
  /** Turns unsigned order into signed order. */
  readonly bias: V128;
}

const BYTES: Elements = {
  count: 16,
  equal: (a, b) => a.op("i8x16Eq", b).test("i8x16Bitmask"),
  notAbove: (x, y) => x.op("i8x16GtS", y).unary("not").test("i8x16Bitmask"),
  spread: (a, n) => a.op("swizzle", n.splat8x16()),
  bias: bytes16(Array(16).fill(0x80)),
};
const WORDS: Elements = {
  count: 8,
  equal: (a, b) => a.op("i16x8Eq", b).test("i16x8Bitmask"),
  notAbove: (x, y) => x.op("i16x8GtS", y).unary("not").test("i16x8Bitmask"),
  spread: (a, n) => a.op("swizzle", n.mul(0x0202).add(0x0100).splat16x8()),
  bias: lanes(Array(8).fill(0x8000), 16),
};

/** Computes IntRes2: one bit for each element of the second operand. */
function define(f: FunctionBuilder, kind: Elements): void {
  const a = f.parameter(0, "v128");
  const b = f.parameter(1, "v128");
  const lengthA = f.parameter(2, "i32").get;
  const lengthB = f.parameter(3, "i32").get;
  const control = f.parameter(4, "i32").get;
  const all = (1 << kind.count) - 1;
  const validA = f.tmp(i32(1).shl(lengthA).sub(1));
  const validB = f.tmp(i32(1).shl(lengthB).sub(1));
  const result = f.local("i32");
  const n = f.local("i32");
  const aggregation = f.tmp(control.shrU(2).and(3));

  /** For the valid elements of the first operand, so many at a time. */
  const each = (step: number, body: () => void): void => {
    f.set(n, i32(0));
    f.block((done) => {
      f.loop((again) => {
        f.brIf(done, n.get.add(step).gtU(lengthA));
        body();
        f.set(n, n.get.add(step));
        f.br(again);
      });
    });
  };

  f.set(result, i32(0));
  f.if(aggregation.eq(AGGREGATION.ANY), () => {
    each(1, () => f.set(result, result.get.or(kind.equal(b.get, kind.spread(a.get, n.get)))));
    f.set(result, result.get.and(validB));
  });
  f.if(aggregation.eq(AGGREGATION.RANGES), () => {
    f.if(control.and(CONTROL.SIGNED).eqz(), () => {
      f.set(a, a.get.op("xor", kind.bias));
      f.set(b, b.get.op("xor", kind.bias));
    });
    // Two elements are the least and the greatest of a range.
    each(2, () => {
      const fromLeast = kind.notAbove(kind.spread(a.get, n.get), b.get);
      const toGreatest = kind.notAbove(b.get, kind.spread(a.get, n.get.add(1)));
      f.set(result, result.get.or(fromLeast.and(toGreatest)));
    });
    f.set(result, result.get.and(validB));
  });
  f.if(aggregation.eq(AGGREGATION.EACH), () => {
    const both = kind.equal(a.get, b.get).and(validA).and(validB);
    const neither = validA.or(validB).xor(all);
    f.set(result, both.or(neither));
  });
  f.if(aggregation.eq(AGGREGATION.ORDERED), () => {
    f.set(result, i32(all));
    // What would lie beyond the register counts as equal; what lies beyond the string does not.
    each(1, () => {
      const found = kind.equal(b.get, kind.spread(a.get, n.get)).and(validB).shrU(n.get);
      f.set(result, result.get.and(found.or(i32(all).shrU(n.get).xor(all))));
    });
  });
  f.if(control.and(CONTROL.NEGATIVE), () =>
    f.set(result, result.get.xor(control.and(CONTROL.MASKED).select(validB, i32(all)))),
  );
  f.return(result.get);
}

export function defineCompareStrings(module: ModuleBuilder, runtime: VectorRuntime): void {
  module.define(runtime.compareStrings, (f) => {
    f.if(f.parameter(4, "i32").get.and(CONTROL.WORDS), () => define(f, WORDS));
    define(f, BYTES);
  });
}
