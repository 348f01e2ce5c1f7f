import { type I32, type I64, i32, i64, load, store } from "../../wasm/expression.js";
import { FORMAT } from "../fpu/format.js";
import { A } from "../fpu/operand.js";
import { STATUS } from "../fpu/x87-control.js";
import { FPU, REG } from "../layout.js";
import type { Condition, Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";
import {
  begin,
  clearCodes,
  isEmpty,
  mayStore,
  moveTop,
  pop,
  precisionFormat,
  pushAnyway,
  pushResult,
  setCodes,
  setTag,
  stackFault,
  stackRegister,
  start,
  storeResult,
  takeRegister,
  unpackRegister,
} from "./x87-stack.js";

const EXTENDED = i32(FORMAT.EXTENDED.number);

/** A memory operand of an x87 instruction. */
type Source = "single" | "double" | "word" | "dword" | "qword" | "register";
const SOURCE_SIZE: Readonly<Record<Source, string>> = {
  single: "Md",
  double: "Mq",
  word: "Mw",
  dword: "Md",
  qword: "Mq",
  register: "T",
};

/** Loads the operand's value before anything changes. */
function loadSource(m: Meaning, source: Source): I64 {
  if (source === "register") return i64(0n);
  return source === "single" || source === "double" ? m.readUnsigned(0) : m.read(0);
}

function unpackSource(m: Meaning, source: Source, value: I64, operand: number): void {
  const { f, runtime } = m;
  if (source === "single") f.callStatement(runtime.fpUnpack32, i32(operand), value);
  else if (source === "double") f.callStatement(runtime.fpUnpack64, i32(operand), value);
  else if (source === "register") unpackRegister(m, operand, stackRegister(m, m.vectorAddress(0)));
  else f.callStatement(runtime.fpUnpackInteger, i32(operand), value);
}

type Arithmetic = "add" | "mul" | "sub" | "subr" | "div" | "divr";

function compute(m: Meaning, operation: Arithmetic): void {
  const { f, runtime } = m;
  const format = precisionFormat(m);
  switch (operation) {
    case "add":
      f.callStatement(runtime.fpAdd, format, i32(0));
      break;
    case "sub":
    case "subr":
      f.callStatement(runtime.fpAdd, format, i32(1));
      break;
    case "mul":
      f.callStatement(runtime.fpMultiply, format);
      break;
    default:
      f.callStatement(runtime.fpDivide, format);
  }
}

/** ST(0) or ST(i) := one op other. Reversed operations take the operands in the other order. */
function arithmetic(operation: Arithmetic, source: Source, toRegister: boolean, pops: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    const value = loadSource(m, source);
    start(m);
    const distance = source === "register" ? f.tmp(m.vectorAddress(0)) : i32(0);
    const empty = isEmpty(m, 0).or(isEmpty(m, distance));
    const reversed = operation === "subr" || operation === "divr";
    // The destination is the left operand of SUB and DIV.
    const swap = toRegister !== reversed;
    f.if(
      empty,
      () => stackFault(m, false),
      () => {
        unpackRegister(m, swap ? FPU.B : FPU.A, stackRegister(m, 0));
        unpackSource(m, source, value, swap ? FPU.A : FPU.B);
        compute(m, operation);
      },
    );
    f.if(mayStore(m), () => {
      storeResult(m, toRegister ? distance : 0);
      if (pops) pop(m);
    });
  };
}

/** Condition codes of a relation: C3 C2 C0 as ZF PF CF. */
function relationCodes(relation: I32): I32 {
  const unordered = relation.eq(3);
  const equal = relation.eqz().or(unordered);
  const below = relation.eq(1).or(unordered);
  return equal.mul(STATUS.C3).or(unordered.mul(STATUS.C2)).or(below.mul(STATUS.C0));
}

const UNORDERED = 3;

/** FCOM and FUCOM: to the condition codes, or to RFLAGS. */
function compare(
  source: Source | "zero",
  quietInvalid: boolean,
  pops: 0 | 1 | 2,
  toFlags = false,
): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    const value = source === "zero" ? i64(0n) : loadSource(m, source);
    start(m);
    const distance = source === "register" ? f.tmp(pops === 2 ? i32(16) : m.vectorAddress(0)) : i32(0);
    const relation = f.temporary("i32");
    f.if(
      isEmpty(m, 0).or(isEmpty(m, distance)),
      () => {
        stackFault(m, false);
        f.set(relation, i32(UNORDERED));
      },
      () => {
        unpackRegister(m, FPU.A, stackRegister(m, 0));
        if (source === "zero") f.callStatement(m.runtime.fpUnpackInteger, i32(FPU.B), i64(0n));
        else if (source === "register") unpackRegister(m, FPU.B, stackRegister(m, distance));
        else unpackSource(m, source, value, FPU.B);
        f.set(relation, f.call(m.runtime.fpCompare, i32(quietInvalid ? 1 : 0)));
      },
    );
    f.if(mayStore(m), () => {
      if (toFlags) {
        const codes = f.tmp(relationCodes(relation.get));
        const bits = codes.shrU(8).and(1).or(codes.shrU(8).and(4)).or(codes.shrU(8).and(0x40));
        m.setFlagBits(bits.toI64U());
      } else {
        clearCodes(m, STATUS.C0 | STATUS.C2 | STATUS.C3);
        setCodes(m, relationCodes(relation.get));
      }
      for (let n = 0; n < pops; n++) pop(m);
    });
  };
}

/** FLD of a memory operand: exact, but a signaling NaN or a denormal is an exception. */
function loadValue(source: Exclude<Source, "register">): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    const value = loadSource(m, source);
    start(m);
    unpackSource(m, source, value, FPU.A);
    f.callStatement(m.runtime.fpConvert, EXTENDED);
    pushResult(m);
  };
}

function loadExtended(m: Meaning): void {
  const { f } = m;
  begin(m);
  const address = m.linear();
  const low = m.load(address, 8);
  const high = m.load(address.add(8n), 2, true);
  start(m);
  f.emit(store.i64(i32(FPU.RESULT), low));
  f.emit(store.i32(i32(FPU.RESULT_EXPONENT), high.toI32()));
  pushResult(m);
}

/** FLD ST(i): the bits as they are. */
function loadRegister(m: Meaning): void {
  const { f } = m;
  begin(m);
  start(m);
  const register = stackRegister(m, m.vectorAddress(0));
  f.if(
    isEmpty(m, m.vectorAddress(0)),
    () => {
      // Underflow of the source comes before overflow of the destination.
      stackFault(m, false);
      pushAnyway(m);
    },
    () => {
      takeRegister(m, register);
      pushResult(m);
    },
  );
}

function storeRegister(pops: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    start(m);
    const distance = f.tmp(m.vectorAddress(0));
    const register = stackRegister(m, 0);
    f.if(
      isEmpty(m, 0),
      () => stackFault(m, false),
      () => takeRegister(m, register),
    );
    f.if(mayStore(m), () => {
      storeResult(m, distance);
      if (pops) pop(m);
    });
  };
}

/** The alias of FSTP ST(i) that does not mind an empty ST(0): then it only pops. */
function moveAndPop(m: Meaning): void {
  const { f } = m;
  begin(m);
  start(m);
  const distance = f.tmp(m.vectorAddress(0));
  f.if(isEmpty(m, 0).eqz(), () => {
    const from = stackRegister(m, 0);
    const to = stackRegister(m, distance);
    f.emit(store.i64(to, load.i64(from)));
    f.emit(store.i64(to, load.i64(from, 8), 8));
    setTag(m, distance, 0);
  });
  pop(m);
}

/** FST and FSTP to single and double. */
function storeFloat(kind: "single" | "double", pops: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    m.prepareWrite(0);
    start(m);
    const bits = f.temporary("i64");
    f.if(
      isEmpty(m, 0),
      () => {
        stackFault(m, false);
        f.set(bits, i64(kind === "single" ? 0xffc0_0000n : 0xfff8n << 48n));
      },
      () => {
        unpackRegister(m, FPU.A, stackRegister(m, 0));
        f.set(bits, f.call(m.runtime.fpConvert, i32(kind === "single" ? FORMAT.SINGLE.number : FORMAT.DOUBLE.number)));
        // A denormal in a register is none of the destination's business.
        dropDenormal(m);
      },
    );
    f.if(mayStore(m, true), () => {
      m.write(0, bits.get);
      if (pops) pop(m);
    });
  };
}

function dropDenormal(m: Meaning): void {
  m.f.emit(store.i32(i32(FPU.FLAGS), load.i32(i32(FPU.FLAGS)).and(~2)));
}

function storeExtended(m: Meaning): void {
  const { f } = m;
  begin(m);
  const address = m.linear();
  // Both parts must be writable before either is written.
  m.writeAddress(address, 8);
  m.writeAddress(address.add(8n), 2);
  start(m);
  const register = stackRegister(m, 0);
  f.if(
    isEmpty(m, 0),
    () => stackFault(m, false),
    () => takeRegister(m, register),
  );
  f.if(mayStore(m, true), () => {
    m.store(address, 8, load.i64(i32(FPU.RESULT)));
    m.store(address.add(8n), 2, load.i64_32U(i32(FPU.RESULT_EXPONENT)));
    pop(m);
  });
}

/** FIST, FISTP and FISTTP. */
function storeInteger(bits: 16 | 32 | 64, pops: boolean, truncate: boolean): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    m.prepareWrite(0);
    start(m);
    const value = f.temporary("i64");
    f.if(
      isEmpty(m, 0),
      () => {
        stackFault(m, false);
        f.set(value, i64(-(1n << BigInt(bits - 1))));
      },
      () => {
        unpackRegister(m, FPU.A, stackRegister(m, 0));
        const rounding = truncate ? i32(3) : load.i32(i32(FPU.CONTROL)).and(3);
        f.set(value, f.call(m.runtime.fpToInteger, i32(bits), rounding));
      },
    );
    if (truncate) f.emit(store.i32(i32(FPU.ROUNDED_UP), i32(0)));
    f.if(mayStore(m, true), () => {
      m.write(0, value.get);
      if (pops) pop(m);
    });
  };
}

/** ST(0) := something of ST(0). */
function unary(work: (m: Meaning, register: I32) => void): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    start(m);
    const register = stackRegister(m, 0);
    f.if(
      isEmpty(m, 0),
      () => stackFault(m, false),
      () => work(m, register),
    );
    f.if(mayStore(m), () => storeResult(m, 0));
  };
}

/** FCHS and FABS change the sign bit and nothing else. */
const signed = (change: (high: I32) => I32): ((m: Meaning) => void) =>
  unary((m, register) => {
    m.f.emit(store.i64(i32(FPU.RESULT), load.i64(register)));
    m.f.emit(store.i32(i32(FPU.RESULT_EXPONENT), change(load.i32_16U(register, 8))));
  });

function exchange(m: Meaning): void {
  const { f } = m;
  begin(m);
  start(m);
  const distance = f.tmp(m.vectorAddress(0));
  const first = stackRegister(m, 0);
  const second = stackRegister(m, distance);
  // An empty register takes part as the indefinite, if the exception is masked.
  const emptyFirst = isEmpty(m, 0);
  const emptySecond = isEmpty(m, distance);
  f.if(emptyFirst.or(emptySecond), () => stackFault(m, false));
  f.if(mayStore(m), () => {
    const value = (empty: I32, register: I32): readonly [I64, I64] => [
      f.tmp(empty.select(i64(3n << 62n), load.i64(register))),
      f.tmp(empty.select(i64(0xffffn), load.i64_16U(register, 8))),
    ];
    const [a, aHigh] = value(emptyFirst, first);
    const [b, bHigh] = value(emptySecond, second);
    f.emit(store.i64(first, b));
    f.emit(store.i64(first, bHigh, 8));
    f.emit(store.i64(second, a));
    f.emit(store.i64(second, aHigh, 8));
    setTag(m, 0, 0);
    setTag(m, distance, 0);
  });
}

function conditionalMove(condition: Condition): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    // C1 is left alone unless there is a stack fault.
    const direction = f.tmp(load.i32_16U(i32(REG.FSW)).and(STATUS.C1));
    start(m);
    const distance = f.tmp(m.vectorAddress(0));
    const take = f.tmp(m.condition(condition));
    const source = f.tmp(take.select(distance, i32(0)));
    const register = stackRegister(m, source);
    f.if(
      isEmpty(m, 0).or(isEmpty(m, distance)),
      () => stackFault(m, false),
      () => {
        takeRegister(m, register);
        setCodes(m, direction);
      },
    );
    f.if(mayStore(m), () => storeResult(m, 0));
  };
}

/** Constants: significand and exponent rounded to nearest, and what a directed rounding changes in the last place. */
interface Constant {
  readonly high: number;
  readonly low: bigint;
  /** The true value is below the rounded one: rounding down takes one off; above: rounding up adds one. */
  readonly down: number;
  readonly up: number;
}
const CONSTANTS: Readonly<Record<string, Constant>> = {
  fld1: { high: 0x3fff, low: 0x8000000000000000n, down: 0, up: 0 },
  fldl2t: { high: 0x4000, low: 0xd49a784bcd1b8afen, down: 0, up: 1 },
  fldl2e: { high: 0x3fff, low: 0xb8aa3b295c17f0bcn, down: 1, up: 0 },
  fldpi: { high: 0x4000, low: 0xc90fdaa22168c235n, down: 1, up: 0 },
  fldlg2: { high: 0x3ffd, low: 0x9a209a84fbcff799n, down: 1, up: 0 },
  fldln2: { high: 0x3ffe, low: 0xb17217f7d1cf79acn, down: 1, up: 0 },
  fldz: { high: 0, low: 0n, down: 0, up: 0 },
};

function loadConstant({ high, low, down, up }: Constant): (m: Meaning) => void {
  return (m) => {
    const { f } = m;
    begin(m);
    start(m);
    const rounding = load.i32(i32(FPU.CONTROL)).and(3);
    const less = down ? rounding.eq(1).or(rounding.eq(3)).toI64U() : i64(0n);
    const more = up ? rounding.eq(2).toI64U() : i64(0n);
    f.emit(store.i64(i32(FPU.RESULT), i64(low).sub(less).add(more)));
    f.emit(store.i32(i32(FPU.RESULT_EXPONENT), i32(high)));
    pushResult(m);
  };
}

/** FXAM: class in C3 C2 C0, sign in C1; an empty register is no exception. */
function examine(m: Meaning): void {
  const { f } = m;
  begin(m);
  start(m);
  const register = stackRegister(m, 0);
  unpackRegister(m, FPU.A, register);
  const codes = f.temporary("i32");
  // Classes: zero, finite, infinity, quiet and signaling NaN.
  const byClass = [STATUS.C3, STATUS.C2, STATUS.C2 | STATUS.C0, STATUS.C0, STATUS.C0];
  f.set(
    codes,
    byClass.reduce<I32>((chosen, code, n) => A.class.eq(n).select(i32(code), chosen), i32(0)),
  );
  f.if(A.denormal, () => f.set(codes, i32(STATUS.C3 | STATUS.C2)));
  f.if(A.is("SIGNALING").and(A.significand.geS(0n)), () => f.set(codes, i32(0)));
  f.if(isEmpty(m, 0), () => f.set(codes, i32(STATUS.C3 | STATUS.C0)));
  clearCodes(m, STATUS.CODES);
  setCodes(m, codes.get.or(load.i32_16U(register, 8).shrU(15).mul(STATUS.C1)));
}

function free(pops: boolean): (m: Meaning) => void {
  return (m) => {
    begin(m);
    start(m);
    setTag(m, m.f.tmp(m.vectorAddress(0)), 3);
    if (pops) pop(m);
  };
}

const turn =
  (by: 1 | -1): ((m: Meaning) => void) =>
  (m) => {
    begin(m);
    start(m);
    moveTop(m, by);
  };

const NUMBERS: Readonly<Record<string, number>> = { add: 0, mul: 1, sub: 4, subr: 5, div: 6, divr: 7 };
const MEMORY: readonly {
  readonly opcode: string;
  readonly source: Exclude<Source, "register" | "qword">;
  readonly prefix: string;
}[] = [
  { opcode: "D8", source: "single", prefix: "f" },
  { opcode: "DC", source: "double", prefix: "f" },
  { opcode: "DA", source: "dword", prefix: "fi" },
  { opcode: "DE", source: "word", prefix: "fi" },
];

const row = (mnemonic: string, opcode: string, operands: string, meaning: (m: Meaning) => void): IsaRow => ({
  mnemonic,
  opcode,
  operands,
  meaning,
});

const arithmeticRows = Object.entries(NUMBERS).flatMap(([name, n]): IsaRow[] => {
  const operation = name as Arithmetic;
  // In the forms that write ST(i) the encodings of SUB and SUBR, DIV and DIVR are exchanged.
  const other = n >= 4 ? n ^ 1 : n;
  return [
    ...MEMORY.map(({ opcode, source, prefix }) =>
      row(prefix + name, `${opcode} /${n}`, SOURCE_SIZE[source], arithmetic(operation, source, false, false)),
    ),
    row(`f${name}`, `D8 /${n}`, "T", arithmetic(operation, "register", false, false)),
    row(`f${name}`, `DC /${other}`, "T", arithmetic(operation, "register", true, false)),
    row(`f${name}p`, `DE /${other}`, "T", arithmetic(operation, "register", true, true)),
  ];
});

const comparisonRows = [2, 3].flatMap((n): IsaRow[] => {
  const pops = n === 3 ? 1 : 0;
  const suffix = pops ? "p" : "";
  return [
    ...MEMORY.map(({ opcode, source, prefix }) =>
      row(`${prefix}com${suffix}`, `${opcode} /${n}`, SOURCE_SIZE[source], compare(source, true, pops)),
    ),
    row(`fcom${suffix}`, `D8 /${n}`, "T", compare("register", true, pops)),
    row(`fcom${suffix}`, `DC /${n}`, "T", compare("register", true, pops)),
  ];
});

const fixed = (mnemonic: string, opcode: string, meaning: (m: Meaning) => void): IsaRow =>
  row(mnemonic, opcode, "", meaning);

const MOVES: readonly (readonly [string, string, Condition])[] = [
  ["fcmovb", "DA /0", "b"],
  ["fcmove", "DA /1", "e"],
  ["fcmovbe", "DA /2", "be"],
  ["fcmovu", "DA /3", "p"],
  ["fcmovnb", "DB /0", "ae"],
  ["fcmovne", "DB /1", "ne"],
  ["fcmovnbe", "DB /2", "a"],
  ["fcmovnu", "DB /3", "np"],
];

/** Encodings that the SDM leaves out and every processor executes as these. */
const aliasRows: readonly IsaRow[] = [
  row("fcom", "DC /2", "T", compare("register", true, 0)),
  row("fcomp", "DC /3", "T", compare("register", true, 1)),
  row("fcomp", "DE /2", "T", compare("register", true, 1)),
  row("fxch", "DD /1", "T", exchange),
  row("fxch", "DF /1", "T", exchange),
  row("fstpnce", "D9 /3", "T", moveAndPop),
  row("fstp", "DF /2", "T", storeRegister(true)),
  row("fstp", "DF /3", "T", storeRegister(true)),
];

export const x87Rows: readonly IsaRow[] = [
  ...aliasRows,
  ...arithmeticRows,
  ...comparisonRows,
  fixed("fcompp", "DE =D9", compare("register", true, 2)),
  fixed("fucompp", "DA =E9", compare("register", false, 2)),
  row("fucom", "DD /4", "T", compare("register", false, 0)),
  row("fucomp", "DD /5", "T", compare("register", false, 1)),
  row("fucomi", "DB /5", "T", compare("register", false, 0, true)),
  row("fcomi", "DB /6", "T", compare("register", true, 0, true)),
  row("fucomip", "DF /5", "T", compare("register", false, 1, true)),
  row("fcomip", "DF /6", "T", compare("register", true, 1, true)),
  fixed("ftst", "D9 =E4", compare("zero", true, 0)),
  row("fld", "D9 /0", "Md", loadValue("single")),
  row("fld", "DD /0", "Mq", loadValue("double")),
  row("fld", "DB /5", "M", loadExtended),
  row("fld", "D9 /0", "T", loadRegister),
  row("fild", "DF /0", "Mw", loadValue("word")),
  row("fild", "DB /0", "Md", loadValue("dword")),
  row("fild", "DF /5", "Mq", loadValue("qword")),
  row("fst", "D9 /2", "Md", storeFloat("single", false)),
  row("fstp", "D9 /3", "Md", storeFloat("single", true)),
  row("fst", "DD /2", "Mq", storeFloat("double", false)),
  row("fstp", "DD /3", "Mq", storeFloat("double", true)),
  row("fstp", "DB /7", "M", storeExtended),
  row("fst", "DD /2", "T", storeRegister(false)),
  row("fstp", "DD /3", "T", storeRegister(true)),
  row("fist", "DF /2", "Mw", storeInteger(16, false, false)),
  row("fistp", "DF /3", "Mw", storeInteger(16, true, false)),
  row("fist", "DB /2", "Md", storeInteger(32, false, false)),
  row("fistp", "DB /3", "Md", storeInteger(32, true, false)),
  row("fistp", "DF /7", "Mq", storeInteger(64, true, false)),
  row("fisttp", "DF /1", "Mw", storeInteger(16, true, true)),
  row("fisttp", "DB /1", "Md", storeInteger(32, true, true)),
  row("fisttp", "DD /1", "Mq", storeInteger(64, true, true)),
  row("fxch", "D9 /1", "T", exchange),
  ...MOVES.map(([mnemonic, opcode, condition]) => row(mnemonic, opcode, "T", conditionalMove(condition))),
  row("ffree", "DD /0", "T", free(false)),
  row("ffreep", "DF /0", "T", free(true)),
  fixed("fnop", "D9 =D0", (m) => {
    begin(m);
  }),
  fixed(
    "fchs",
    "D9 =E0",
    signed((high) => high.xor(0x8000)),
  ),
  fixed(
    "fabs",
    "D9 =E1",
    signed((high) => high.and(0x7fff)),
  ),
  fixed("fxam", "D9 =E5", examine),
  fixed(
    "fsqrt",
    "D9 =FA",
    unary((m, register) => {
      unpackRegister(m, FPU.A, register);
      m.f.callStatement(m.runtime.fpSquareRoot, precisionFormat(m));
    }),
  ),
  fixed(
    "frndint",
    "D9 =FC",
    unary((m, register) => {
      unpackRegister(m, FPU.A, register);
      m.f.if(A.denormal, () => m.f.emit(store.i32(i32(FPU.FLAGS), i32(2))));
      m.f.callStatement(m.runtime.fpRoundToIntegral, EXTENDED, load.i32(i32(FPU.CONTROL)).and(3));
    }),
  ),
  fixed("fdecstp", "D9 =F6", turn(-1)),
  fixed("fincstp", "D9 =F7", turn(1)),
  ...Object.keys(CONSTANTS).map((name) =>
    fixed(name, `D9 =${constantByte(name)}`, loadConstant(CONSTANTS[name] as Constant)),
  ),
];

/** FLD1 is D9 E8, then in this order. */
function constantByte(name: string): string {
  return (0xe8 + Object.keys(CONSTANTS).indexOf(name)).toString(16).toUpperCase();
}
