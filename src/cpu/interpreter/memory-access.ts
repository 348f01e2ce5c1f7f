import { PAGE_SIZE } from "../../arch/page.js";
import { bulk, type I32, type I64, i32, i64, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder, FunctionReference, Local } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { ACCESS_LOG_ENTRIES } from "../debug.js";
import {
  ADDRESSING,
  CODE_TABLE,
  EXIT,
  FAULT,
  INDEX_ARENA,
  LOCAL,
  PAGE_META,
  RAM_BASE,
  RECORD,
  SEG,
  TLB,
  WALK,
} from "../layout.js";
import type { CoreRuntime } from "./runtime.js";

const at = (address: number): I32 => i32(address);
/** Longest instruction in bytes, less one. */
const LONGEST = 14;

/** PAGE_META word of a WebAssembly address in host memory. */
const metaOf = (address: I32): I32 => load.i32(address.sub(RAM_BASE).shrU(12).shl(2).add(PAGE_META.BASE));

function byteLoop(f: FunctionBuilder, count: I32, body: (n: I32) => void): void {
  const n = f.local("i32");
  f.set(n, i32(0));
  f.block((done) => {
    f.loop((again) => {
      f.brIf(done, n.get.geU(count));
      body(n.get);
      f.set(n, n.get.add(1));
      f.br(again);
    });
  });
}

/** The slow path of data accesses: TLB fill, accesses across pages, writes to pages with decoded code. */
export function defineMemory(module: ModuleBuilder, runtime: CoreRuntime): void {
  /** Translations do not enter the TLB while every access is wanted. */
  const mayFill = (): I32 =>
    load
      .i32(at(LOCAL.WATCH_LOAD))
      .ne(1)
      .and(load.i32(at(LOCAL.LOG_ACCESSES)).eqz());
  /** Enters a translation into the data TLB in use. */
  const fill = (f: FunctionBuilder, linear: I64, address: I32): void => {
    const entry = f.tmp(
      linear
        .toI32()
        .shrU(7)
        .and((TLB.DATA_ENTRIES - 1) * TLB.DATA_ENTRY_SIZE)
        .add(load.i32(at(LOCAL.DATA_TLB))),
    );
    const page = f.tmp(linear.and(-4096n));
    f.emit(store.i64(entry, page));
    const writable = load
      .i32(at(LOCAL.WALK))
      .and(WALK.WRITABLE)
      .ne(0)
      .and(
        metaOf(address)
          .and(PAGE_META.CODE | PAGE_META.UNTOUCHED_ZERO)
          .eqz(),
      );
    f.emit(store.i64(entry, writable.select(page, i64(-1n)), 8));
    f.emit(store.i32(entry, address.sub(linear.toI32()), 16));
  };

  /** Bytes of the access in the first page. */
  const firstPart = (linear: I64, bytes: I32): I32 => {
    const room = i32(PAGE_SIZE).sub(linear.toI32().and(PAGE_SIZE - 1));
    return room.ltU(bytes).select(room, bytes);
  };

  const translateBoth = (
    f: FunctionBuilder,
    linear: I64,
    bytes: I32,
    access: number,
  ): { first: Local<"i32">; second: Local<"i32">; part: I32 } => {
    const first = f.local("i32");
    const second = f.local("i32");
    const part = f.tmp(firstPart(linear, bytes));
    // An access that runs out of the canonical range is a fault of the address, before any of a page.
    const last = f.tmp(linear.add(bytes.sub(1).toI64U()));
    f.if(load.i32(at(LOCAL.LOG_ACCESSES)), () => {
      const count = f.tmp(load.i32(at(LOCAL.ACCESS_COUNT)));
      f.if(count.ltU(ACCESS_LOG_ENTRIES), () => {
        const entry = f.tmp(count.shl(4));
        f.emit(store.i64(entry, linear, LOCAL.ACCESS_LOG));
        f.emit(store.i32(entry, bytes, LOCAL.ACCESS_LOG + 8));
        f.emit(store.i32(entry, i32(access === 2 ? 1 : 0), LOCAL.ACCESS_LOG + 12));
        f.emit(store.i32(at(LOCAL.ACCESS_COUNT), count.add(1)));
      });
    });
    f.if(part.ltU(bytes).and(last.shl(16n).shrS(16n).ne(last)), () => {
      f.callStatement(runtime.translate, last, i32(access));
      f.return(i32(0));
    });
    f.emit(store.i32(at(LOCAL.ACCESS_BYTES), part));
    f.set(first, f.call(runtime.translate, linear, i32(access)));
    f.if(first.get.eqz(), () => f.return(i32(0)));
    f.set(second, i32(0));
    f.if(part.ltU(bytes), () => {
      const walk = f.tmp(load.i32(at(LOCAL.WALK)));
      f.emit(store.i32(at(LOCAL.ACCESS_BYTES), bytes.sub(part)));
      f.set(second, f.call(runtime.translate, linear.add(part.toI64U()), i32(access)));
      f.if(second.get.eqz(), () => f.return(i32(0)));
      f.emit(store.i32(at(LOCAL.WALK), load.i32(at(LOCAL.WALK)).or(walk.and(WALK.ODD))));
    });
    return { first, second, part };
  };

  /** With WATCH_LOAD armed, a load from a private page is reported instead of made. */
  const watch = (f: FunctionBuilder, address: I32): void => {
    f.if(
      load
        .i32(at(LOCAL.WATCH_LOAD))
        .eq(1)
        .and(load.i32(at(LOCAL.WALK)).and(WALK.SHARED).eqz()),
      () => {
        f.emit(store.i32(at(LOCAL.EXIT), i32(EXIT.FAULT)));
        f.emit(store.i32(at(LOCAL.FAULT_KIND), i32(FAULT.WATCH)));
        f.emit(store.i64(at(LOCAL.FAULT_HPA), address.sub(RAM_BASE).toI64U()));
        f.return(i32(0));
      },
    );
  };

  module.define(runtime.readMiss, (f) => {
    const linear = f.parameter(0, "i64").get;
    const bytes = f.parameter(1, "i32").get;
    const { first, second, part } = translateBoth(f, linear, bytes, 1);
    watch(f, first.get);
    f.if(second.get.eqz().and(load.i32(at(LOCAL.WALK)).and(WALK.ODD).eqz()), () => {
      f.if(mayFill(), () => fill(f, linear, first.get));
      f.return(first.get);
    });
    byteLoop(f, bytes, (n) => {
      const source = n.ltU(part).select(first.get.add(n), second.get.add(n.sub(part)));
      f.emit(store.i32_8(n, load.i32_8U(source), LOCAL.BOUNCE_READ));
    });
    f.return(i32(LOCAL.BOUNCE_READ));
  });

  module.define(runtime.writeMiss, (f) => {
    const linear = f.parameter(0, "i64").get;
    const bytes = f.parameter(1, "i32").get;
    const { first, second, part } = translateBoth(f, linear, bytes, 2);
    const plain = metaOf(first.get)
      .and(PAGE_META.CODE)
      .or(load.i32(at(LOCAL.WALK)).and(WALK.ODD))
      .eqz();
    f.if(second.get.eqz().and(plain), () => {
      f.if(mayFill(), () => fill(f, linear, first.get));
      f.return(first.get);
    });
    byteLoop(f, bytes, (n) => {
      const source = n.ltU(part).select(first.get.add(n), second.get.add(n.sub(part)));
      f.emit(store.i32_8(n, load.i32_8U(source), LOCAL.BOUNCE));
    });
    f.emit(store.i32(at(LOCAL.BOUNCE_FIRST), first.get));
    f.emit(store.i32(at(LOCAL.BOUNCE_SECOND), second.get));
    f.emit(store.i32(at(LOCAL.BOUNCE_WRITE), part));
    f.emit(store.i32(at(LOCAL.BOUNCE_BYTES), bytes));
    f.return(i32(LOCAL.BOUNCE));
  });

  module.define(runtime.finishWrite, (f) => {
    const bytes = f.tmp(load.i32(at(LOCAL.BOUNCE_BYTES)));
    const part = f.tmp(load.i32(at(LOCAL.BOUNCE_WRITE)));
    const first = f.tmp(load.i32(at(LOCAL.BOUNCE_FIRST)));
    const second = f.tmp(load.i32(at(LOCAL.BOUNCE_SECOND)));
    byteLoop(f, bytes, (n) => {
      const target = n.ltU(part).select(first.add(n), second.add(n.sub(part)));
      f.emit(store.i32_8(target, load.i32_8U(n, LOCAL.BOUNCE)));
    });
    f.if(metaOf(first).and(PAGE_META.CODE), () => f.callStatement(runtime.invalidate, first, part));
    f.if(second, () => {
      f.if(metaOf(second).and(PAGE_META.CODE), () => f.callStatement(runtime.invalidate, second, bytes.sub(part)));
    });
  });

  const empty = (f: FunctionBuilder, base: number, bytes: number): void =>
    f.emit(bulk.fill(at(base), i32(0xff), i32(bytes)));
  module.define(runtime.flushLinear, (f) => {
    empty(f, TLB.DATA, TLB.DATA_MODES * TLB.DATA_ENTRIES * TLB.DATA_ENTRY_SIZE);
    empty(f, TLB.FETCH, TLB.FETCH_MODES * TLB.FETCH_ENTRIES * TLB.FETCH_ENTRY_SIZE);
  });
  module.define(runtime.flushGuestPhysical, (f) => empty(f, TLB.GPA, TLB.GPA_ENTRIES * TLB.GPA_ENTRY_SIZE));

  defineInvalidate(module, runtime.invalidate);
  defineEffectiveAddress(module, runtime);
}

/** Drops the records of instructions that have a byte in the range. */
function defineInvalidate(module: ModuleBuilder, invalidate: FunctionReference): void {
  module.define(invalidate, (f) => {
    const address = f.parameter(0, "i32").get;
    const bytes = f.parameter(1, "i32").get;
    const pageNumber = f.tmp(address.sub(RAM_BASE).shrU(12));
    const offset = f.tmp(address.and(PAGE_SIZE - 1));
    const index = f.local("i32");
    const n = f.local("i32");
    const record = f.local("i32");
    for (const table of [CODE_TABLE.LONG, CODE_TABLE.LEGACY]) {
      f.set(index, load.i32(pageNumber.shl(2).add(table)));
      f.if(index.get, () => {
        f.set(n, offset.gtU(LONGEST).select(offset.sub(LONGEST), i32(0)));
        f.block((done) => {
          f.loop((again) => {
            f.brIf(done, n.get.geU(offset.add(bytes)));
            f.set(record, load.i32(index.get.add(n.get.shl(2))));
            f.if(record.get, () => {
              f.if(n.get.add(load.i32_8U(record.get, RECORD.LENGTH)).gtU(offset), () => {
                f.emit(store.i32_16(record.get, i32(0), RECORD.HANDLER));
                f.emit(store.i32(index.get.add(n.get.shl(2)), i32(0)));
              });
            });
            f.set(n, n.get.add(1));
            f.br(again);
          });
        });
        f.set(record, load.i32(index.get, INDEX_ARENA.CROSSING));
        f.if(record.get.ne(0).and(offset.leU(LONGEST)), () => f.emit(store.i32_16(record.get, i32(0), RECORD.HANDLER)));
      });
    }
  });
}

/** Effective address and linear address by what the record says, for every mode. */
function defineEffectiveAddress(module: ModuleBuilder, runtime: CoreRuntime): void {
  /** Takes an offset modulo the address size. */
  const wrap = (f: FunctionBuilder, record: I32, offset: Local<"i64">): void => {
    const addressing = load.i32_8U(record, RECORD.SCALE);
    f.if(addressing.and(ADDRESSING.BITS32), () => f.set(offset, offset.get.and(0xffff_ffffn)));
    f.if(addressing.and(ADDRESSING.BITS16), () => f.set(offset, offset.get.and(0xffffn)));
  };

  module.define(runtime.offset, (f) => {
    const record = f.parameter(0, "i32").get;
    const scale = load.i32_8U(record, RECORD.SCALE).and(3).toI64U();
    const offset = f.local("i64");
    f.set(
      offset,
      load
        .i64(load.i32_16U(record, RECORD.BASE))
        .add(load.i64(load.i32_16U(record, RECORD.INDEX)).shl(scale))
        .add(load.i64_32S(record, RECORD.DISPLACEMENT)),
    );
    wrap(f, record, offset);
    f.return(offset.get);
  });

  module.define(runtime.linear, (f) => f.return(f.call(runtime.linearAt, f.parameter(0, "i32").get, i64(0n))));

  module.define(runtime.linearAt, (f) => {
    const record = f.parameter(0, "i32").get;
    const offset = f.local("i64");
    f.set(offset, f.call(runtime.offset, record).add(f.parameter(1, "i64").get));
    wrap(f, record, offset);
    const segment = f.tmp(load.i32_16U(record, RECORD.SEGMENT));
    f.if(load.i32_8U(record, RECORD.SCALE).and(ADDRESSING.LEGACY).eqz(), () =>
      f.return(offset.get.add(load.i64(segment))),
    );
    const rights = f.tmp(load.i32(segment, SEG.RIGHTS));
    const beyond = f.tmp(offset.get.gtU(load.i64_32U(segment, SEG.LIMIT)));
    // Type 4..7: expand-down data, valid above the limit.
    const expandDown = rights.and(0xc).eq(4);
    const bad = beyond.xor(expandDown).or(rights.shrU(16).and(1));
    // An address that is not canonical makes the access fault.
    f.return(bad.select(i64(1n << 62n), offset.get.add(load.i64(segment)).and(0xffff_ffffn)));
  });
}
