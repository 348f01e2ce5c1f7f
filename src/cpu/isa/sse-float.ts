import { type I32, type I64, i32, i64, load, store, type V128, v128 } from "../../wasm/expression.js";
import { FORMAT } from "../fpu/format.js";
import { B } from "../fpu/operand.js";
import { FPU, FPU_CLASS, FPU_CONTROL } from "../layout.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";
import { enterMmx, immediateByte } from "./vector-form.js";

/** Element type of a floating-point SSE instruction. */
type Element = "single" | "double";

const PRECISION = 32;
/** Round to nearest, denormals are zero, tiny results are flushed. */
const APPROXIMATION = FPU_CONTROL.DENORMALS_ARE_ZERO | FPU_CONTROL.FLUSH_TO_ZERO;
const formatOf = (element: Element): I32 => i32(element === "single" ? FORMAT.SINGLE.number : FORMAT.DOUBLE.number);
const lanesOf = (element: Element): number => (element === "single" ? 4 : 2);

export function laneBits(vector: V128, element: Element, lane: number): I64 {
  return element === "single" ? vector.lane32(lane).toI64U() : vector.lane64(lane);
}
function withLane(vector: V128, element: Element, lane: number, bits: I64): V128 {
  return element === "single" ? vector.withLane32(lane, bits.toI32()) : vector.withLane64(lane, bits);
}

function unpack(m: Meaning, at: number, element: Element, bits: I64): void {
  m.f.callStatement(element === "single" ? m.runtime.fpUnpack32 : m.runtime.fpUnpack64, i32(at), bits);
}

/** Ends the computing part: enters flags into MXCSR, or raises #XM before anything is written. */
function finish(m: Meaning): void {
  m.fault(m.f.call(m.runtime.fpEndSse));
}

/** A function of the two operands' bits in one lane. */
type LaneOperation = (m: Meaning, element: Element, a: I64, b: I64) => I64;

const arithmetic =
  (compute: (m: Meaning, format: I32) => I64): LaneOperation =>
  (m, element, a, b) => {
    unpack(m, FPU.A, element, a);
    unpack(m, FPU.B, element, b);
    return m.f.tmp(compute(m, formatOf(element)));
  };

const OPERATION: Readonly<Record<string, LaneOperation>> = {
  add: arithmetic((m, format) => m.f.call(m.runtime.fpAdd, format, i32(0))),
  sub: arithmetic((m, format) => m.f.call(m.runtime.fpAdd, format, i32(1))),
  mul: arithmetic((m, format) => m.f.call(m.runtime.fpMultiply, format)),
  div: arithmetic((m, format) => m.f.call(m.runtime.fpDivide, format)),
  sqrt: (m, element, _a, b) => {
    unpack(m, FPU.A, element, b);
    return m.f.tmp(m.f.call(m.runtime.fpSquareRoot, formatOf(element)));
  },
  // The second operand is the answer where there is no order: with a NaN, and with two zeros.
  min: choose(1),
  max: choose(2),
};

const SIGN: Readonly<Record<Element, bigint>> = { single: 1n << 31n, double: 1n << 63n };
const EXPONENT: Readonly<Record<Element, bigint>> = { single: 0xffn << 23n, double: 0x7ffn << 52n };
const denormalsAreZero = (): I32 => load.i32(i32(FPU.CONTROL)).and(FPU_CONTROL.DENORMALS_ARE_ZERO).ne(0);
const hasZeroExponent = (element: Element, bits: I64): I32 => bits.and(EXPONENT[element]).eqz();

function choose(wanted: number): LaneOperation {
  return (m, element, a, b) => {
    unpack(m, FPU.A, element, a);
    unpack(m, FPU.B, element, b);
    const chosen = m.f.tmp(m.f.call(m.runtime.fpCompare, i32(1)).eq(wanted).select(a, b));
    return m.f.tmp(denormalsAreZero().and(hasZeroExponent(element, chosen)).select(chosen.and(SIGN[element]), chosen));
  };
}

/** Packed: every lane. Scalar: lane 0; the rest of the destination stays. */
function lanewise(element: Element, packed: boolean, operation: LaneOperation): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    m.f.callStatement(m.runtime.fpBeginSse);
    const results = Array.from({ length: packed ? lanesOf(element) : 1 }, (_, lane) =>
      operation(m, element, m.f.tmp(laneBits(a, element, lane)), m.f.tmp(laneBits(b, element, lane))),
    );
    finish(m);
    m.writeVector(
      0,
      results.reduce((vector, bits, lane) => withLane(vector, element, lane, bits), a),
    );
  };
}

/** Relations for which a CMPxx predicate holds: bit 0 equal, 1 less, 2 greater, 3 unordered; one nibble a predicate. */
const PREDICATES = 0x7cde8321;

function comparing(): LaneOperation {
  return (m, element, a, b) => {
    const predicate = m.f.tmp(immediateByte(m).and(7));
    const signaling = predicate.and(3).sub(1).ltU(2);
    unpack(m, FPU.A, element, a);
    unpack(m, FPU.B, element, b);
    const relation = m.f.tmp(m.f.call(m.runtime.fpCompare, signaling));
    const holds = i32(PREDICATES | 0)
      .shrU(predicate.shl(2).add(relation))
      .and(1);
    return m.f.tmp(i64(0n).sub(holds.toI64U()));
  };
}

/** COMISx and UCOMISx: ZF PF CF from the relation, OF SF AF clear. */
function compareFlags(element: Element, signaling: number): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    m.f.callStatement(m.runtime.fpBeginSse);
    unpack(m, FPU.A, element, m.f.tmp(laneBits(a, element, 0)));
    unpack(m, FPU.B, element, m.f.tmp(laneBits(b, element, 0)));
    const relation = m.f.tmp(m.f.call(m.runtime.fpCompare, i32(signaling)));
    finish(m);
    const unordered = relation.eq(3);
    const bits = relation.eqz().or(unordered).shl(6).or(unordered.shl(2)).or(relation.eq(1).or(unordered));
    m.setFlagBits(m.f.tmp(bits.toI64U()));
  };
}

/** Horizontal and alternating additions by the lanes they take. */
function pairs(
  element: Element,
  take: (a: V128, b: V128, lane: number) => readonly [I64, I64, boolean],
): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    m.f.callStatement(m.runtime.fpBeginSse);
    const results = Array.from({ length: lanesOf(element) }, (_, lane) => {
      const [x, y, subtract] = take(a, b, lane);
      unpack(m, FPU.A, element, x);
      unpack(m, FPU.B, element, y);
      return m.f.tmp(m.f.call(m.runtime.fpAdd, formatOf(element), i32(subtract ? 1 : 0)));
    });
    finish(m);
    m.writeVector(
      0,
      results.reduce((vector, bits, lane) => withLane(vector, element, lane, bits), a),
    );
  };
}

const horizontal = (element: Element, subtract: boolean): ((m: Meaning) => void) =>
  pairs(element, (a, b, lane) => {
    const half = lanesOf(element) / 2;
    const from = lane < half ? a : b;
    const first = (lane % half) * 2;
    return [laneBits(from, element, first), laneBits(from, element, first + 1), subtract];
  });

const alternating = (element: Element): ((m: Meaning) => void) =>
  pairs(element, (a, b, lane) => [laneBits(a, element, lane), laneBits(b, element, lane), lane % 2 === 0]);

const rounding = (): I32 => load.i32(i32(FPU.CONTROL)).and(3);
const TRUNCATE = 3;

/** Floating point to a signed integer of so many bits. */
function toInteger(m: Meaning, element: Element, bits: I64, width: number, truncate: boolean): I64 {
  unpack(m, FPU.A, element, bits);
  return m.f.tmp(m.f.call(m.runtime.fpToInteger, i32(width), truncate ? i32(TRUNCATE) : rounding()));
}

/** CVTSS2SI and its kin. */
function scalarToGeneral(element: Element, truncate: boolean): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const b = m.readVector(1);
    m.f.callStatement(m.runtime.fpBeginSse);
    const value = toInteger(m, element, m.f.tmp(laneBits(b, element, 0)), m.size * 8, truncate);
    finish(m);
    m.write(0, value);
  };
}

/** CVTSI2SS, CVTSI2SD. */
function generalToScalar(element: Element): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    const value = m.read(1);
    const a = m.readVector(0);
    m.f.callStatement(m.runtime.fpBeginSse);
    const bits = fromInteger(m, element, value);
    finish(m);
    m.writeVector(0, withLane(a, element, 0, bits));
  };
}

function fromInteger(m: Meaning, element: Element, value: I64): I64 {
  m.f.callStatement(m.runtime.fpUnpackInteger, i32(FPU.A), value);
  return m.f.tmp(m.f.call(m.runtime.fpConvert, formatOf(element)));
}

function convert(m: Meaning, from: Element, bits: I64): I64 {
  unpack(m, FPU.A, from, bits);
  return m.f.tmp(m.f.call(m.runtime.fpConvert, formatOf(from === "single" ? "double" : "single")));
}

const ZERO = v128(0n, 0n);

/** A conversion of lanes: how many there are, what becomes of lane n of the source, and where it goes. */
function conversion(
  count: number,
  keepRest: boolean,
  compute: (m: Meaning, source: V128, lane: number) => I64,
  place: (vector: V128, lane: number, bits: I64) => V128,
  mmx: "" | "source" | "destination" = "",
): (m: Meaning) => void {
  return (m) => {
    m.requireSse();
    // A memory source leaves the MMX registers, and so the x87, alone.
    const touchesMmx = mmx === "destination" || (mmx === "source" && !m.memory);
    if (touchesMmx) m.requireMmx();
    const source = m.readVector(1);
    const old = keepRest ? m.readVector(0) : ZERO;
    m.f.callStatement(m.runtime.fpBeginSse);
    const results = Array.from({ length: count }, (_, lane) => compute(m, source, lane));
    finish(m);
    m.writeVector(
      0,
      results.reduce((vector, bits, lane) => place(vector, lane, bits), old),
    );
    if (touchesMmx) enterMmx(m);
  };
}

const dword = (vector: V128, lane: number, bits: I64): V128 => vector.withLane32(lane, bits.toI32());
const single = (vector: V128, lane: number, bits: I64): V128 => withLane(vector, "single", lane, bits);
const double = (vector: V128, lane: number, bits: I64): V128 => withLane(vector, "double", lane, bits);
const integerLane = (vector: V128, lane: number): I64 => vector.lane32(lane).toI64S();

const integers = (
  count: number,
  element: Element,
  truncate: boolean,
  mmx: "" | "destination" = "",
): ((m: Meaning) => void) =>
  conversion(
    count,
    false,
    (m, source, lane) => toInteger(m, element, m.f.tmp(laneBits(source, element, lane)), 32, truncate),
    dword,
    mmx,
  );

const floats = (count: number, element: Element, keepRest: boolean, mmx: "" | "source" = ""): ((m: Meaning) => void) =>
  conversion(
    count,
    keepRest,
    (m, source, lane) => fromInteger(m, element, m.f.tmp(integerLane(source, lane))),
    element === "single" ? single : double,
    mmx,
  );

const between = (count: number, from: Element, keepRest: boolean): ((m: Meaning) => void) =>
  conversion(
    count,
    keepRest,
    (m, source, lane) => convert(m, from, m.f.tmp(laneBits(source, from, lane))),
    from === "single" ? double : single,
  );

/** ROUNDPS and its kin: imm8 1:0 rounding, bit 2 takes MXCSR.RC, bit 3 suppresses PE. */
function roundToIntegral(element: Element, packed: boolean): (m: Meaning) => void {
  return lanewise(element, packed, (m, _element, _a, b) => {
    const { f } = m;
    const control = immediateByte(m);
    unpack(m, FPU.A, element, b);
    const how = control.and(4).select(load.i32(i32(FPU.CONTROL)).and(3), control.and(3));
    const bits = f.tmp(f.call(m.runtime.fpRoundToIntegral, formatOf(element), how));
    f.if(control.and(8), () => f.emit(store.i32(i32(FPU.FLAGS), load.i32(i32(FPU.FLAGS)).and(~PRECISION))));
    return bits;
  });
}

/** DPPS and DPPD: products chosen by imm8 7:4, their sum to the lanes chosen by imm8 3:0. */
function dotProduct(element: Element): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    const control = immediateByte(m);
    f.callStatement(m.runtime.fpBeginSse);
    const count = lanesOf(element);
    const format = formatOf(element);
    const products = Array.from({ length: count }, (_, lane) => {
      const product = f.temporary("i64");
      f.set(product, i64(0n));
      f.if(control.shrU(4 + lane).and(1), () => {
        unpack(m, FPU.A, element, laneBits(a, element, lane));
        unpack(m, FPU.B, element, laneBits(b, element, lane));
        f.set(product, f.call(m.runtime.fpMultiply, format));
      });
      return product.get;
    });
    const add = (x: I64, y: I64): I64 => {
      unpack(m, FPU.A, element, x);
      unpack(m, FPU.B, element, y);
      return f.tmp(f.call(m.runtime.fpAdd, format, i32(0)));
    };
    let sum = add(products[0] as I64, products[1] as I64);
    if (count === 4) sum = add(sum, add(products[2] as I64, products[3] as I64));
    finish(m);
    let result = ZERO;
    for (let lane = 0; lane < count; lane++) {
      result = withLane(result, element, lane, control.shrU(lane).and(1).select(sum, i64(0n)));
    }
    m.writeVector(0, result);
  };
}

/**
 * RCPxS and RSQRTxS: an approximation with relative error below 1.5 * 2^-12, which needs no exceptions and reads denormals as
 * zeros. Here it is the quotient rounded to 12 bits of fraction.
 */
function approximate(packed: boolean, root: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    m.requireSse();
    const b = m.readVector(1);
    const a = m.readVector(0);
    const results = Array.from({ length: packed ? 4 : 1 }, (_, lane) => {
      f.emit(store.i32(i32(FPU.CONTROL), i32(APPROXIMATION)));
      unpack(m, FPU.A, "single", laneBits(b, "single", lane));
      if (root) {
        const square = f.tmp(f.call(m.runtime.fpSquareRoot, i32(FORMAT.DOUBLE.number)));
        unpack(m, FPU.B, "double", square);
      } else unpack(m, FPU.B, "single", laneBits(b, "single", lane));
      f.callStatement(m.runtime.fpUnpackInteger, i32(FPU.A), i64(1n));
      const quotient = f.tmp(f.call(m.runtime.fpDivide, i32(FORMAT.SINGLE.number)));
      // A NaN keeps its payload; anything else keeps 12 bits of its fraction.
      return f.tmp(B.class.geU(FPU_CLASS.QUIET).select(quotient, quotient.add(0x400n).and(0xffff_f800n)));
    });
    m.writeVector(
      0,
      results.reduce((vector, bits, lane) => withLane(vector, "single", lane, bits), a),
    );
  };
}

interface Family {
  readonly suffix: string;
  readonly prefix: string;
  readonly element: Element;
  readonly packed: boolean;
  readonly source: string;
}

const FAMILIES: readonly Family[] = [
  { suffix: "ps", prefix: "NP", element: "single", packed: true, source: "Wdq" },
  { suffix: "pd", prefix: "66", element: "double", packed: true, source: "Wdq" },
  { suffix: "ss", prefix: "F3", element: "single", packed: false, source: "Wd" },
  { suffix: "sd", prefix: "F2", element: "double", packed: false, source: "Wq" },
];

const ARITHMETIC = { sqrt: "51", add: "58", mul: "59", sub: "5C", min: "5D", div: "5E", max: "5F" } as const;

const familyRows = FAMILIES.flatMap(({ suffix, prefix, element, packed, source }): IsaRow[] => {
  const aligned = packed ? { aligned: true } : {};
  return [
    ...Object.entries(ARITHMETIC).map(
      ([name, opcode]): IsaRow => ({
        mnemonic: name + suffix,
        opcode: `${prefix} 0F ${opcode}`,
        operands: `Vdq,${source}`,
        meaning: lanewise(element, packed, OPERATION[name] as LaneOperation),
        ...aligned,
      }),
    ),
    {
      mnemonic: `cmp${suffix}`,
      opcode: `${prefix} 0F C2`,
      operands: `Vdq,${source},Ib`,
      meaning: lanewise(element, packed, comparing()),
      ...aligned,
    },
  ];
});

const row = (
  mnemonic: string,
  opcode: string,
  operands: string,
  meaning: (m: Meaning) => void,
  aligned = false,
): IsaRow => ({
  mnemonic,
  opcode,
  operands,
  meaning,
  ...(aligned ? { aligned } : {}),
});

export const sseFloatRows: readonly IsaRow[] = [
  ...familyRows,
  row("ucomiss", "NP 0F 2E", "Vdq,Wd", compareFlags("single", 0)),
  row("comiss", "NP 0F 2F", "Vdq,Wd", compareFlags("single", 1)),
  row("ucomisd", "66 0F 2E", "Vdq,Wq", compareFlags("double", 0)),
  row("comisd", "66 0F 2F", "Vdq,Wq", compareFlags("double", 1)),
  row("cvtsi2ss", "F3 0F 2A", "Vdq,Ey", generalToScalar("single")),
  row("cvtsi2sd", "F2 0F 2A", "Vdq,Ey", generalToScalar("double")),
  row("cvttss2si", "F3 0F 2C", "Gy,Wd", scalarToGeneral("single", true)),
  row("cvtss2si", "F3 0F 2D", "Gy,Wd", scalarToGeneral("single", false)),
  row("cvttsd2si", "F2 0F 2C", "Gy,Wq", scalarToGeneral("double", true)),
  row("cvtsd2si", "F2 0F 2D", "Gy,Wq", scalarToGeneral("double", false)),
  row("cvtps2pd", "NP 0F 5A", "Vdq,Wq", between(2, "single", false)),
  row("cvtpd2ps", "66 0F 5A", "Vdq,Wdq", between(2, "double", false), true),
  row("cvtss2sd", "F3 0F 5A", "Vdq,Wd", between(1, "single", true)),
  row("cvtsd2ss", "F2 0F 5A", "Vdq,Wq", between(1, "double", true)),
  row("cvtdq2ps", "NP 0F 5B", "Vdq,Wdq", floats(4, "single", false), true),
  row("cvtps2dq", "66 0F 5B", "Vdq,Wdq", integers(4, "single", false), true),
  row("cvttps2dq", "F3 0F 5B", "Vdq,Wdq", integers(4, "single", true), true),
  row("cvtdq2pd", "F3 0F E6", "Vdq,Wq", floats(2, "double", false)),
  row("cvttpd2dq", "66 0F E6", "Vdq,Wdq", integers(2, "double", true), true),
  row("cvtpd2dq", "F2 0F E6", "Vdq,Wdq", integers(2, "double", false), true),
  row("cvtpi2ps", "NP 0F 2A", "Vdq,Qq", floats(2, "single", true, "source")),
  row("cvtpi2pd", "66 0F 2A", "Vdq,Qq", floats(2, "double", false, "source")),
  row("cvttps2pi", "NP 0F 2C", "Pq,Wq", integers(2, "single", true, "destination")),
  row("cvtps2pi", "NP 0F 2D", "Pq,Wq", integers(2, "single", false, "destination")),
  row("cvttpd2pi", "66 0F 2C", "Pq,Wdq", integers(2, "double", true, "destination"), true),
  row("cvtpd2pi", "66 0F 2D", "Pq,Wdq", integers(2, "double", false, "destination"), true),
  row("rcpps", "NP 0F 53", "Vdq,Wdq", approximate(true, false), true),
  row("rcpss", "F3 0F 53", "Vdq,Wd", approximate(false, false)),
  row("rsqrtps", "NP 0F 52", "Vdq,Wdq", approximate(true, true), true),
  row("rsqrtss", "F3 0F 52", "Vdq,Wd", approximate(false, true)),
  row("haddps", "F2 0F 7C", "Vdq,Wdq", horizontal("single", false), true),
  row("haddpd", "66 0F 7C", "Vdq,Wdq", horizontal("double", false), true),
  row("hsubps", "F2 0F 7D", "Vdq,Wdq", horizontal("single", true), true),
  row("hsubpd", "66 0F 7D", "Vdq,Wdq", horizontal("double", true), true),
  row("addsubps", "F2 0F D0", "Vdq,Wdq", alternating("single"), true),
  row("addsubpd", "66 0F D0", "Vdq,Wdq", alternating("double"), true),
  row("roundps", "66 0F 3A 08", "Vdq,Wdq,Ib", roundToIntegral("single", true), true),
  row("roundpd", "66 0F 3A 09", "Vdq,Wdq,Ib", roundToIntegral("double", true), true),
  row("roundss", "66 0F 3A 0A", "Vdq,Wd,Ib", roundToIntegral("single", false)),
  row("roundsd", "66 0F 3A 0B", "Vdq,Wq,Ib", roundToIntegral("double", false)),
  row("dpps", "66 0F 3A 40", "Vdq,Wdq,Ib", dotProduct("single"), true),
  row("dppd", "66 0F 3A 41", "Vdq,Wdq,Ib", dotProduct("double"), true),
];
