import { bulk, type I32, type I64, i32, i64, load, store } from "../../wasm/expression.js";
import { LOCAL, REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import { signExtend, zeroExtend } from "./arithmetic.js";
import type { Meaning } from "./meaning.js";
import type { IsaRow } from "./row.js";

const RAX = 0;
const RCX = 1;
const RSI = 6;
const RDI = 7;
const PAGE = 4096n;

const directionDown = (): I32 => load.i64(i32(REG.FLAGS)).and(0x400n).ne(0n);

/** Linear address of the destination, in ES. The source is the record's memory operand: [rSI] with its segment. */
function destination(m: Meaning): I64 {
  const offset = m.register(RDI, m.addressSize, true);
  if (m.addressSize === 8) return offset;
  const base = load.i64(i32(REG.SEGMENTS + SEGMENT.ES * SEG_SIZE + SEG.BASE));
  return m.f.tmp(offset.add(base).and(0xffff_ffffn));
}

function advance(m: Meaning, register: number, bytes: I64): void {
  const moved = m.register(register, m.addressSize, true).add(bytes);
  m.setRegister(register, m.addressSize, moved);
}

/** Bytes to the next element: the operand size, negative when DF is set. */
function step(m: Meaning): I64 {
  return m.f.tmp(directionDown().select(i64(BigInt(-m.size)), i64(BigInt(m.size))));
}

/**
 * The frame of a repeated string instruction. `turn` does up to `most` iterations and says how many it did (at least one);
 * it may fault before it has changed anything. Each turn is committed, so that a fault or an interruption leaves an
 * instruction that can go on. Iterations cost one tick each; the first tick has already been taken for the instruction.
 */
function repeated(m: Meaning, turn: (most: I64) => I64, stop?: () => I32): void {
  const { f } = m;
  const account = (ticks: I64): void => {
    m.setBudget(m.budget().sub(ticks.toI32()));
    f.emit(store.i32(i32(LOCAL.REP_TICKS), load.i32(i32(LOCAL.REP_TICKS)).add(ticks.toI32())));
  };
  f.block((finished) => {
    f.brIf(finished, m.register(RCX, m.addressSize, true).eqz());
    f.block((completed) => {
      f.loop((again) => {
        f.if(m.budget().ltS(0), () => {
          m.setBudget(m.budget().add(1));
          m.interrupt();
        });
        const count = m.register(RCX, m.addressSize, true);
        const allowed = f.tmp(m.budget().add(1).toI64U());
        const most = f.tmp(count.ltU(allowed).select(count, allowed));
        const done = f.tmp(turn(most));
        const rest = f.tmp(zeroExtend(count.sub(done), m.addressSize));
        m.setRegister(RCX, m.addressSize, rest);
        account(done);
        if (stop) f.brIf(completed, stop());
        f.brIf(again, rest.ne(0n));
      });
    });
    // All ticks have been accounted for as iterations: one of them is the instruction itself.
    account(i64(-1n));
  });
}

function single(m: Meaning, element: () => void, stop?: () => I32): void {
  if (m.repeat === "") element();
  else
    repeated(
      m,
      () => {
        element();
        return i64(1n);
      },
      stop,
    );
}

/** Iterations that fit before a page ends. */
function room(address: I64, size: number): I64 {
  return i64(PAGE)
    .sub(address.and(PAGE - 1n))
    .shrU(BigInt(Math.log2(size)));
}
const least = (m: Meaning, a: I64, b: I64): I64 => {
  const x = m.f.tmp(a);
  const y = m.f.tmp(b);
  return x.ltU(y).select(x, y);
};

function moveString(m: Meaning): void {
  if (m.repeat === "") {
    moveElement(m, m.currentLinear(), destination(m));
    return;
  }
  const { f } = m;
  repeated(m, (most) => {
    const done = f.temporary("i64");
    const from = m.currentLinear();
    const to = destination(m);
    const wanted = f.tmp(least(m, most, least(m, room(from, m.size), room(to, m.size))));
    const bulkPossible = directionDown().eqz().and(wanted.gtU(1n));
    f.set(done, i64(1n));
    f.if(
      f.tmp(bulkPossible),
      () => {
        const source = m.readAddress(from, m.size);
        const target = m.writeAddress(to, m.size);
        const bytes = f.tmp(wanted.mul(BigInt(m.size)));
        const distance = to.sub(from);
        // Bytes that overlap ahead of the source must be copied element by element: they are read again.
        const direct = source.ne(LOCAL.BOUNCE_READ).and(target.ne(LOCAL.BOUNCE)).and(distance.geU(bytes));
        f.if(
          direct,
          () => {
            f.emit(bulk.copy(target, source, bytes.toI32()));
            f.set(done, wanted);
            advance(m, RSI, bytes);
            advance(m, RDI, bytes);
          },
          () => moveElement(m, from, to),
        );
      },
      () => moveElement(m, from, to),
    );
    return done.get;
  });
}

function moveElement(m: Meaning, from: I64, to: I64): void {
  const value = m.load(from, m.size);
  m.store(to, m.size, value);
  const bytes = step(m);
  advance(m, RSI, bytes);
  advance(m, RDI, bytes);
}

function storeElement(m: Meaning, to: I64): void {
  m.store(to, m.size, m.register(RAX, m.size));
  advance(m, RDI, step(m));
}

function storeString(m: Meaning): void {
  if (m.repeat === "") {
    storeElement(m, destination(m));
    return;
  }
  const { f } = m;
  repeated(m, (most) => {
    const done = f.temporary("i64");
    const to = destination(m);
    const value = m.register(RAX, m.size);
    const low = f.tmp(value.and(0xffn));
    const uniform = zeroExtend(value, m.size).eq(low.mul(0x0101_0101_0101_0101n & ((1n << BigInt(m.size * 8)) - 1n)));
    const wanted = f.tmp(least(m, most, room(to, m.size)));
    f.set(done, i64(1n));
    f.if(
      f.tmp(directionDown().eqz().and(wanted.gtU(1n)).and(uniform)),
      () => {
        const target = m.writeAddress(to, m.size);
        f.if(
          target.ne(LOCAL.BOUNCE),
          () => {
            const bytes = f.tmp(wanted.mul(BigInt(m.size)));
            f.emit(bulk.fill(target, low.toI32(), bytes.toI32()));
            f.set(done, wanted);
            advance(m, RDI, bytes);
          },
          () => storeElement(m, to),
        );
      },
      () => storeElement(m, to),
    );
    return done.get;
  });
}

function loadString(m: Meaning): void {
  single(m, () => {
    const value = m.load(m.currentLinear(), m.size);
    m.setRegister(RAX, m.size, value);
    advance(m, RSI, step(m));
  });
}

/** The condition that ends REPE or REPNE. */
function stopCondition(m: Meaning): (() => I32) | undefined {
  if (m.repeat === "") return undefined;
  return () => m.condition(m.repeat === "rep" ? "ne" : "e");
}

function compareString(m: Meaning): void {
  single(
    m,
    () => {
      const a = m.load(m.currentLinear(), m.size);
      const b = m.load(destination(m), m.size);
      const r = m.f.tmp(signExtend(a.sub(b), m.size));
      const bytes = step(m);
      advance(m, RSI, bytes);
      advance(m, RDI, bytes);
      m.flagsSubtract(a, b, r);
    },
    stopCondition(m),
  );
}

function scanString(m: Meaning): void {
  single(
    m,
    () => {
      const a = m.register(RAX, m.size);
      const b = m.load(destination(m), m.size);
      const r = m.f.tmp(signExtend(a.sub(b), m.size));
      advance(m, RDI, step(m));
      m.flagsSubtract(a, b, r);
    },
    stopCondition(m),
  );
}

function pair(
  mnemonic: string,
  byte: string,
  wide: string,
  meaning: (m: Meaning) => void,
  repeat: "rep" | "repe",
): IsaRow[] {
  return [
    { mnemonic, opcode: byte, operands: "", meaning, repeat, fixedSize: 1 },
    { mnemonic, opcode: wide, operands: "", meaning, repeat, sized: true },
  ];
}

export const stringRows: readonly IsaRow[] = [
  ...pair("movs", "A4", "A5", moveString, "rep"),
  ...pair("cmps", "A6", "A7", compareString, "repe"),
  ...pair("stos", "AA", "AB", storeString, "rep"),
  ...pair("lods", "AC", "AD", loadString, "rep"),
  ...pair("scas", "AE", "AF", scanString, "repe"),
];
