import { type I32, type I64, i32, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { ADDRESSING, EXIT, LOCAL, RAM_BASE, RECORD, REG, WALK } from "../layout.js";
import { fetchSlot } from "../mmu/tlb.js";
import type { CoreRuntime } from "./runtime.js";

const at = (address: number): I32 => i32(address);

/** Finding the record to go on with, and raising exceptions. */
export function defineControlFlow(module: ModuleBuilder, runtime: CoreRuntime): void {
  /** Leaves: nothing is decoded at this instruction pointer, or it cannot be fetched. */
  const leaveAt = (f: FunctionBuilder, exit: number, rip: I64): void => {
    f.emit(store.i32(at(LOCAL.EXIT), i32(exit)));
    f.emit(store.i64(at(REG.RIP), rip));
    f.return(i32(0));
  };

  module.define(runtime.jump, (f) => {
    const rip = f.parameter(0, "i64").get;
    const linear = f.tmp(rip.add(load.i64(at(LOCAL.CODE_BASE))).and(load.i64(at(LOCAL.CODE_MASK))));
    const page = f.tmp(linear.and(-4096n));
    const entry = f.tmp(fetchSlot(linear));
    const index = f.local("i32");
    f.set(index, load.i32(entry, 8));
    f.if(load.i64(entry).ne(page), () => {
      const address = f.tmp(f.call(runtime.translate, linear, i32(4)));
      f.if(address.eqz(), () => leaveAt(f, EXIT.FETCH_FAULT, rip));
      // What an odd page holds is decoded for one execution.
      f.if(load.i32(at(LOCAL.WALK)).and(WALK.ODD), () => leaveAt(f, EXIT.DECODE, rip));
      f.set(
        index,
        load.i32(
          address
            .sub(RAM_BASE)
            .shrU(12)
            .shl(2)
            .add(load.i32(at(LOCAL.CODE_TABLE))),
        ),
      );
      f.if(index.get.eqz(), () => leaveAt(f, EXIT.DECODE, rip));
      f.emit(store.i64(entry, page));
      f.emit(store.i32(entry, index.get, 8));
      f.emit(store.i32(entry, address.and(-4096), 12));
    });
    f.emit(store.i64(at(LOCAL.PAGE_BASE), rip.sub(linear.and(0xfffn))));
    f.emit(store.i32(at(LOCAL.PAGE_INDEX), index.get));
    const record = f.tmp(load.i32(index.get.add(linear.toI32().and(0xfff).shl(2))));
    f.if(record.eqz(), () => leaveAt(f, EXIT.DECODE, rip));
    f.if(load.i32_16U(record).eqz(), () => leaveAt(f, EXIT.DECODE, rip));
    f.return(record);
  });

  module.define(runtime.branch, (f) => {
    const record = f.parameter(0, "i32").get;
    const target = f.local("i64");
    f.set(target, load.i64(at(LOCAL.PAGE_BASE)).add(load.i64(record, RECORD.IMMEDIATE)));
    const addressing = f.tmp(load.i32_8U(record, RECORD.SCALE));
    f.if(addressing.and(ADDRESSING.BITS32), () => f.set(target, target.get.and(0xffff_ffffn)));
    f.if(addressing.and(ADDRESSING.BITS16), () => f.set(target, target.get.and(0xffffn)));
    const offset = f.tmp(target.get.sub(load.i64(at(LOCAL.PAGE_BASE))));
    f.if(offset.ltU(4096n), () => {
      const found = f.tmp(
        load.i32(
          offset
            .toI32()
            .shl(2)
            .add(load.i32(at(LOCAL.PAGE_INDEX))),
        ),
      );
      f.if(found, () => {
        f.if(load.i32_16U(found), () => {
          f.emit(store.i32(record, found, RECORD.TARGET));
          f.return(found);
        });
      });
    });
    f.return(f.call(runtime.jump, target.get));
  });

  module.define(runtime.raise, (f) => {
    f.emit(store.i32(at(LOCAL.EXIT), i32(EXIT.EXCEPTION)));
    f.emit(store.i32(at(LOCAL.EXCEPTION_VECTOR), f.parameter(0, "i32").get));
    f.emit(store.i32(at(LOCAL.EXCEPTION_CODE), f.parameter(1, "i32").get));
  });
}
