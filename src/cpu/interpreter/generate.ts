import { type I32, i32, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder, FunctionReference, Label } from "../../wasm/function.js";
import { ModuleBuilder } from "../../wasm/module.js";
import { EXIT, LOCAL, RECORD, RECORD_SIZE, REG } from "../layout.js";
import { type HandlerTable, handlerTable, PSEUDO_HANDLER, PSEUDO_HANDLERS } from "./handlers.js";
import { type FlagWord, type Frame, InterpreterMeaning } from "./meaning.js";
import { type CoreRuntime, defineRuntime } from "./runtime.js";

const FLAG_WORDS: readonly FlagWord[] = ["FZ", "FN", "FX", "FY", "FS"];
const at = (address: number): I32 => i32(address);

interface ColdHandler {
  readonly reference: FunctionReference<readonly ["i32"], "i32">;
  /** Needs flags and budget in memory while it runs. */
  readonly full: boolean;
}

/** A handler of its own: (record) gives the record to go on with, or 0 to leave. Flags and budget are in memory. */
function defineColdHandlers(module: ModuleBuilder, runtime: CoreRuntime, table: HandlerTable): ColdHandler[] {
  return table.variants.slice(table.hotCount).map((variant) => {
    const reference = module.declare(["i32"], "i32");
    let full = false;
    module.define(reference, (f) => {
      const record = f.parameter(0, "i32").get;
      const frame: Frame = {
        record,
        flag: {
          FZ: load.i64(at(REG.FZ)),
          FN: load.i64(at(REG.FN)),
          FX: load.i64(at(REG.FX)),
          FY: load.i64(at(REG.FY)),
          FS: load.i64(at(REG.FS)),
        },
        setFlag: (word, value) => f.emit(store.i64(at(REG[word]), value)),
        dataTlb: load.i32(at(LOCAL.DATA_TLB)),
        budget: load.i32(at(LOCAL.BUDGET)),
        setBudget: (value) => f.emit(store.i32(at(LOCAL.BUDGET), value)),
        proceed: (next) => f.return(next ?? record.add(RECORD_SIZE)),
        undo: () => {
          f.emit(store.i32(at(LOCAL.RECORD), record));
          f.return(i32(-1));
        },
        leave: () => f.return(i32(0)),
      };
      const meaning = new InterpreterMeaning(f, runtime, variant, frame);
      meaning.build();
      full = meaning.usesFlags;
      f.unreachable();
    });
    return { reference, full };
  });
}

/** The interpreter: `run(ticks)` executes until the ticks are used up or something needs a decision (LOCAL.EXIT). */
function defineRun(
  module: ModuleBuilder,
  runtime: CoreRuntime,
  table: HandlerTable,
  cold: readonly ColdHandler[],
): void {
  const run = module.declare(["i32"], null);
  const coldType = module.type(["i32"], "i32");
  module.table(cold.map(({ reference }) => reference));
  module.define(run, (f) => {
    const budget = f.parameter(0, "i32");
    const record = f.local("i32");
    const dataTlb = f.local("i32");
    const flag = { FZ: f.local("i64"), FN: f.local("i64"), FX: f.local("i64"), FY: f.local("i64"), FS: f.local("i64") };
    const flagValues = { FZ: flag.FZ.get, FN: flag.FN.get, FX: flag.FX.get, FY: flag.FY.get, FS: flag.FS.get };
    const loadFlags = (): void => {
      for (const word of FLAG_WORDS) f.set(flag[word], load.i64(at(REG[word])));
    };
    const storeFlags = (): void => {
      for (const word of FLAG_WORDS) f.emit(store.i64(at(REG[word]), flag[word].get));
    };
    const setExit = (exit: number): void => f.emit(store.i32(at(LOCAL.EXIT), i32(exit)));
    const setRip = (): void =>
      f.emit(store.i64(at(REG.RIP), load.i64(at(LOCAL.PAGE_BASE)).add(load.i64_16U(record.get, RECORD.OFFSET))));
    const giveBack = (): void => f.set(budget, budget.get.add(1));

    loadFlags();
    f.set(dataTlb, load.i32(at(LOCAL.DATA_TLB)));
    f.emit(store.i32(at(LOCAL.BUDGET_REST), i32(0)));
    f.emit(store.i32(at(LOCAL.REP_TICKS), i32(0)));
    f.block((leave) => {
      f.set(record, load.i32(at(LOCAL.ODD_RECORD)));
      f.if(
        record.get,
        () => f.emit(store.i32(at(LOCAL.ODD_RECORD), i32(0))),
        () => f.set(record, f.call(runtime.jump, load.i64(at(REG.RIP)))),
      );
      f.brIf(leave, record.get.eqz());
      f.block((exhausted) => {
        f.block((undo) => {
          f.loop((next) => {
            const frame: Frame = {
              record: record.get,
              flag: flagValues,
              setFlag: (word, value) => f.set(flag[word], value),
              dataTlb: dataTlb.get,
              budget: budget.get,
              setBudget: (value) => f.set(budget, value),
              proceed: (target) => {
                f.set(record, target ?? record.get.add(RECORD_SIZE));
                f.br(next);
              },
              undo: () => f.br(undo),
              leave: () => f.br(leave),
            };
            const pseudo: (() => void)[] = [];
            const lookUp = (): I32 => {
              giveBack();
              const rip = load.i64(at(LOCAL.PAGE_BASE)).add(load.i64_16U(record.get, RECORD.OFFSET));
              const found = f.tmp(f.call(runtime.jump, rip));
              f.brIf(leave, found.eqz());
              return found;
            };
            pseudo[PSEUDO_HANDLER.INVALID] = () => {
              // What is decoded there now lies in the same page: next time the way is short.
              const found = lookUp();
              f.emit(store.i32(record.get, found, RECORD.TARGET));
              f.emit(store.i32_16(record.get, i32(PSEUDO_HANDLER.GOTO), RECORD.HANDLER));
              frame.proceed(found);
            };
            pseudo[PSEUDO_HANDLER.CONTINUE] = () => frame.proceed(lookUp());
            pseudo[PSEUDO_HANDLER.NOTHING] = () => frame.proceed(null);
            pseudo[PSEUDO_HANDLER.SYSTEM] = () => {
              setExit(EXIT.SYSTEM);
              f.br(undo);
            };
            pseudo[PSEUDO_HANDLER.GOTO] = () => {
              giveBack();
              f.set(record, load.i32(record.get, RECORD.TARGET));
              f.br(next);
            };
            pseudo[PSEUDO_HANDLER.CROSSING] = () => {
              const beyond = load
                .i64(at(LOCAL.PAGE_BASE))
                .add(load.i64(at(LOCAL.CODE_BASE)))
                .add(4096n);
              const address = f.tmp(f.call(runtime.translate, beyond, i32(4)));
              f.if(address.eqz(), () => {
                setExit(EXIT.FETCH_FAULT);
                f.br(undo);
              });
              f.if(address.toI64U().ne(load.i64(record.get, RECORD.IMMEDIATE)), () => {
                setExit(EXIT.DECODE);
                f.br(undo);
              });
              giveBack();
              f.set(record, load.i32(record.get, RECORD.TARGET));
              f.br(next);
            };
            pseudo[PSEUDO_HANDLER.RAISE] = () => {
              const value = f.tmp(load.i32(record.get, RECORD.IMMEDIATE));
              f.callStatement(runtime.raise, value.and(0xff), value.ltS(0).select(i32(-1), i32(0)));
              f.br(undo);
            };
            pseudo[PSEUDO_HANDLER.BREAK] = () => {
              setExit(EXIT.BREAK);
              f.br(undo);
            };
            const hot = table.variants.slice(0, table.hotCount);
            const bodies: (() => void)[] = [
              ...pseudo,
              ...hot.map((variant) => () => {
                f.scope(() => new InterpreterMeaning(f, runtime, variant, frame).build());
              }),
            ];
            const callCold = (): I32 =>
              f.callIndirect(coldType, load.i32_16U(record.get).sub(PSEUDO_HANDLERS + table.hotCount), record.get);
            const finishCold = (result: I32): void => {
              f.brIf(undo, result.eq(-1));
              f.brIf(leave, result.eqz());
              f.set(record, result);
              f.br(next);
            };
            bodies.push(() =>
              f.scope(() => {
                const result = f.tmp(callCold());
                finishCold(result);
              }),
            );
            bodies.push(() =>
              f.scope(() => {
                storeFlags();
                f.emit(store.i32(at(LOCAL.BUDGET), budget.get));
                const result = f.tmp(callCold());
                loadFlags();
                f.set(budget, load.i32(at(LOCAL.BUDGET)));
                finishCold(result);
              }),
            );
            const coldPlain = bodies.length - 2;
            const coldFull = bodies.length - 1;
            const targets = [
              ...bodies.slice(0, -2).map((_, n) => n),
              ...cold.map(({ full }) => (full ? coldFull : coldPlain)),
            ];
            nest(
              f,
              bodies.length,
              (labels) => {
                f.brIf(exhausted, budget.get.eqz());
                f.set(budget, budget.get.sub(1));
                f.brTable(
                  load.i32_16U(record.get),
                  targets.map((n) => labels[n] as Label),
                  labels[0] as Label,
                );
              },
              bodies,
            );
          });
        });
        // Undo: the instruction has changed nothing and does not count.
        setRip();
        f.emit(store.i32(at(LOCAL.RECORD), record.get));
        giveBack();
        f.br(leave);
      });
      // Exhausted.
      setExit(EXIT.BUDGET);
      setRip();
    });
    storeFlags();
    f.emit(store.i32(at(LOCAL.BUDGET), budget.get));
  });
  module.export("run", run);
}

/** Blocks b(n-1) { ... { b0 { head } body0 } body1 ... } body(n-1): branching to label k runs body k. */
function nest(
  f: FunctionBuilder,
  count: number,
  head: (labels: readonly Label[]) => void,
  bodies: readonly (() => void)[],
): void {
  const labels: Label[] = [];
  const open = (n: number): void => {
    if (n < 0) {
      head(labels);
      return;
    }
    f.block((label) => {
      labels[n] = label;
      open(n - 1);
    });
    (bodies[n] as () => void)();
  };
  open(count - 1);
}

/** The exports of the interpreter module. */
export interface InterpreterExports {
  /** Runs for so many ticks; LOCAL.EXIT says why it returned, LOCAL.BUDGET what is left. */
  run(ticks: number): void;
  /** (linear, access): WebAssembly address, 0 after a fault. */
  translate(linear: bigint, access: number): number;
  readMiss(linear: bigint, bytes: number): number;
  writeMiss(linear: bigint, bytes: number): number;
  finishWrite(): void;
  invalidate(address: number, bytes: number): void;
  guestPhysical(gpa: bigint, rights: number): number;
  flushLinear(): void;
  flushGuestPhysical(): void;
}

/** Writes the interpreter module for a memory. */
export function generateInterpreter(memory: ModuleBuilder["memory"]): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(memory);
  const runtime = defineRuntime(module);
  const table = handlerTable();
  const cold = defineColdHandlers(module, runtime, table);
  defineRun(module, runtime, table, cold);
  for (const name of [
    "translate",
    "readMiss",
    "writeMiss",
    "finishWrite",
    "invalidate",
    "guestPhysical",
    "flushLinear",
    "flushGuestPhysical",
  ] as const) {
    module.export(name, runtime[name] as FunctionReference);
  }
  return module.encode();
}
