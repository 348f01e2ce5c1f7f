import { type I32, type I64, i32, i64, load, store } from "../../wasm/expression.js";
import type { FunctionBuilder } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { CoreRuntime } from "../interpreter/runtime.js";
import { EXIT, FAULT, LOCAL, PAGE_META, RAM_BASE, REG, WALK } from "../layout.js";
import { gpaSlot } from "./tlb.js";

/** Bits 51:12 of a paging-structure or EPT entry. */
const ADDRESS = 0x000f_ffff_ffff_f000n;
const PAGE_OFFSET = 0xfffn;
const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const LARGE = 0x80n;
const NO_EXECUTE = 1n << 63n;
const CR0_PG = 1n << 31n;
const CR0_WP = 1n << 16n;
const CR4_SMEP = 1n << 20n;
const CR4_SMAP = 1n << 21n;
const FLAG_AC = 1n << 18n;
const EFER_NXE = 0x800n;

/** Page-fault error code bits (SDM 3A 4.7). */
const PF = { PRESENT: 1, WRITE: 2, USER: 4, RESERVED: 8, FETCH: 16 } as const;

const at = (address: number): I32 => i32(address);

/** Leaves with a fault: kind, code, and 0 as the result. */
function fault(f: FunctionBuilder, kind: number, code: I32): void {
  f.emit(store.i32(at(LOCAL.EXIT), i32(EXIT.FAULT)));
  f.emit(store.i32(at(LOCAL.FAULT_KIND), i32(kind)));
  f.emit(store.i32(at(LOCAL.FAULT_CODE), code));
  f.return(i32(0));
}

/** Address of the PAGE_META word of a host physical address. */
export function pageMeta(hpa: I64): I32 {
  return hpa.shrU(12n).toI32().shl(2).add(PAGE_META.BASE);
}

/** Guest physical to WebAssembly address, by the cache of finished EPT walks or a walk of Secure or shared EPT. */
function defineGuestPhysical(module: ModuleBuilder, runtime: CoreRuntime): void {
  const walk = module.declare(["i64", "i32"], "i32");

  module.define(runtime.guestPhysical, (f) => {
    const gpa = f.parameter(0, "i64").get;
    const rights = f.parameter(1, "i32").get;
    f.emit(store.i64(at(LOCAL.FAULT_GPA), gpa));
    f.if(load.i32(at(LOCAL.EPT_ENABLED)).eqz(), () => {
      f.if(gpa.geU(load.i64(at(LOCAL.RAM_SIZE))), () => {
        fault(f, FAULT.EPT_VIOLATION, rights.or(0x80));
      });
      f.emit(store.i32(at(LOCAL.WALK), i32(0)));
      f.return(gpa.toI32().add(RAM_BASE));
    });
    const entry = f.tmp(gpaSlot(gpa));
    f.if(load.i64(entry).eq(gpa.and(~PAGE_OFFSET)).and(load.i32(entry, 12).and(rights).eq(rights)), () => {
      f.emit(store.i32(at(LOCAL.WALK), load.i32(entry, 12).shrU(8)));
      f.return(load.i32(entry, 8).add(gpa.toI32().and(0xfff)));
    });
    f.return(f.call(walk, gpa, rights));
  });

  module.define(walk, (f) => {
    const gpa = f.parameter(0, "i64").get;
    const rights = f.parameter(1, "i32").get;
    const shared = f.tmp(gpa.and(load.i64(at(LOCAL.SHARED_MASK))).ne(0n));
    const table = f.local("i64");
    const entry = f.local("i64");
    const granted = f.local("i64");
    const shift = f.local("i64");
    const convertible = i32(0x8000_0000 | 0);
    f.set(table, shared.select(load.i64(at(LOCAL.SHARED_ROOT)), load.i64(at(LOCAL.SEPT_ROOT))));
    f.set(granted, i64(7n));
    f.set(shift, load.i32(at(LOCAL.EPT_LEVELS)).toI64U().mul(9n).add(3n));
    const violation = (): void => {
      const denied = granted.get.and(entry.get).and(7n).toI32().shl(3);
      // Bit 31 is ours: the entry would let the processor turn the violation into #VE (suppress-#VE clear).
      const mayConvert = shared.and(entry.get.shrU(63n).toI32().xor(1)).select(convertible, i32(0));
      fault(f, FAULT.EPT_VIOLATION, rights.or(denied).or(0x80).or(mayConvert));
    };
    f.if(table.get.eqz().or(gpa.shrU(shift.get.add(9n)).ne(0n)), () => {
      f.set(entry, i64(NO_EXECUTE));
      violation();
    });
    f.loop((again) => {
      const entryHpa = f.tmp(table.get.add(gpa.shrU(shift.get).and(511n).shl(3n)));
      f.if(entryHpa.geU(load.i64(at(LOCAL.RAM_SIZE))), () => fault(f, FAULT.EPT_MISCONFIG, i32(0)));
      f.set(entry, load.i64(entryHpa.toI32().add(RAM_BASE)));
      f.if(entry.get.and(7n).eqz(), violation);
      // Writable but not readable.
      f.if(entry.get.and(3n).eq(2n), () => fault(f, FAULT.EPT_MISCONFIG, i32(0)));
      f.set(granted, granted.get.and(entry.get));
      const leaf = shift.get.eq(12n).or(entry.get.and(LARGE).ne(0n).and(shift.get.leU(30n)));
      f.if(leaf.eqz(), () => {
        f.set(table, entry.get.and(ADDRESS));
        f.set(shift, shift.get.sub(9n));
        f.br(again);
      });
    });
    const allowed = f.temporary("i32");
    f.set(allowed, granted.get.and(7n).toI32());
    f.if(allowed.get.and(rights).ne(rights), violation);
    const below = f.tmp(i64(1n).shl(shift.get).sub(1n));
    const hpa = f.tmp(entry.get.and(ADDRESS).and(below.not()).or(gpa.and(below)));
    f.if(hpa.geU(load.i64(at(LOCAL.RAM_SIZE))), () => fault(f, FAULT.EPT_MISCONFIG, i32(0)));
    const meta = f.tmp(pageMeta(hpa));
    const walkBits = shared.select(i32(WALK.SHARED), i32(0));
    const owner = shared.select(i32(0), load.i32(at(LOCAL.KEY_ID)));
    f.if(
      load
        .i32(meta)
        .and(PAGE_META.KEY_ID_MASK | PAGE_META.ODD)
        .ne(owner),
      () => {
        const n = f.temporary("i32");
        f.emit(store.i64(at(LOCAL.FAULT_HPA), hpa));
        f.set(n, load.i32(at(LOCAL.ODD_PASSES)));
        f.loop((again) => {
          f.if(n.get, () => {
            f.set(n, n.get.sub(1));
            f.if(load.i64(n.get.shl(4), LOCAL.ODD_PASS_LINES).eq(hpa), () => {
              f.emit(store.i32(at(LOCAL.WALK), walkBits.or(WALK.ODD)));
              f.return(load.i32(n.get.shl(4), LOCAL.ODD_PASS_LINES + 8));
            });
            f.br(again);
          });
        });
        fault(f, FAULT.ODD_PAGE, rights);
      },
    );
    f.if(rights.and(2), () => f.emit(store.i32(meta, load.i32(meta).and(~PAGE_META.UNTOUCHED_ZERO))));
    // A page that nobody has written keeps its note until the first write, which therefore must come by here.
    f.if(load.i32(meta).and(PAGE_META.UNTOUCHED_ZERO), () => f.set(allowed, allowed.get.and(~2)));
    f.emit(store.i32(meta, load.i32(meta).or(PAGE_META.CACHED)));
    const slot = f.tmp(gpaSlot(gpa));
    f.emit(store.i64(slot, gpa.and(~PAGE_OFFSET)));
    f.emit(store.i32(slot, hpa.and(~PAGE_OFFSET).toI32().add(RAM_BASE), 8));
    f.emit(store.i32(slot, allowed.get.or(walkBits.shl(8)), 12));
    f.emit(store.i32(at(LOCAL.WALK), walkBits));
    f.return(hpa.toI32().add(RAM_BASE));
  });
}

/** Linear to WebAssembly address: guest page walk (paging off, or 4-level) with accessed and dirty flags, joined with EPT. */
function defineTranslate(module: ModuleBuilder, runtime: CoreRuntime): void {
  module.define(runtime.translate, (f) => {
    const linear = f.parameter(0, "i64").get;
    const access = f.parameter(1, "i32").get;
    const reach = access.and(7);
    f.emit(store.i64(at(LOCAL.FAULT_ADDRESS), linear));
    /** Marks an EPT violation as one of the final access (qualification bit 8). */
    const finalAccess = (gpa: I64, writable: I32): void => {
      const result = f.tmp(f.call(runtime.guestPhysical, gpa, reach));
      f.if(
        result.eqz(),
        () => f.emit(store.i32(at(LOCAL.FAULT_CODE), load.i32(at(LOCAL.FAULT_CODE)).or(0x100))),
        () => f.emit(store.i32(at(LOCAL.WALK), load.i32(at(LOCAL.WALK)).or(writable))),
      );
      f.return(result);
    };
    f.if(load.i64(at(REG.CR0)).and(CR0_PG).eqz(), () => {
      finalAccess(f.tmp(linear.and(0xffff_ffffn)), i32(WALK.WRITABLE));
    });
    f.if(linear.shl(16n).shrS(16n).ne(linear), () => fault(f, FAULT.GENERAL, i32(0)));

    const user = f.tmp(load.i32(at(REG.CPL)).eq(3).and(access.and(8).eqz()));
    const table = f.local("i64");
    const entry = f.local("i64");
    const shift = f.local("i64");
    const all = f.local("i64");
    const any = f.local("i64");
    const entryAddress = f.local("i32");
    const pageFault = (code: number): void => {
      // I/D tells fetches apart only where something distinguishes them: NXE or SMEP.
      const told = load
        .i64(at(REG.EFER))
        .and(EFER_NXE)
        .or(load.i64(at(REG.CR4)).and(CR4_SMEP))
        .ne(0n);
      const fetch = told.select(access.and(4).shl(2), i32(0));
      fault(f, FAULT.PAGE, i32(code).or(access.and(2)).or(user.shl(2)).or(fetch));
    };
    f.set(table, load.i64(at(REG.CR3)).and(ADDRESS));
    f.set(shift, i64(39n));
    f.set(all, i64(-1n));
    f.set(any, i64(0n));
    f.loop((again) => {
      const entryGpa = f.tmp(table.get.add(linear.shrU(shift.get).and(511n).shl(3n)));
      f.set(entryAddress, f.call(runtime.guestPhysical, entryGpa, i32(1)));
      f.if(entryAddress.get.eqz(), () => f.return(i32(0)));
      f.set(entry, load.i64(entryAddress.get));
      f.if(entry.get.and(PRESENT).eqz(), () => pageFault(0));
      f.if(entry.get.and(LARGE).ne(0n).and(shift.get.eq(39n)), () => pageFault(PF.PRESENT | PF.RESERVED));
      f.if(entry.get.ltS(0n), () => {
        // Bit 63 is reserved without EFER.NXE.
        f.if(load.i64(at(REG.EFER)).and(EFER_NXE).eqz(), () => pageFault(PF.PRESENT | PF.RESERVED));
      });
      f.set(all, all.get.and(entry.get));
      f.set(any, any.get.or(entry.get));
      const leaf = shift.get.eq(12n).or(entry.get.and(LARGE).ne(0n).and(shift.get.leU(30n)));
      f.if(leaf.eqz(), () => {
        f.if(entry.get.and(ACCESSED).eqz(), () => {
          f.set(entryAddress, f.call(runtime.guestPhysical, entryGpa, i32(3)));
          f.if(entryAddress.get.eqz(), () => f.return(i32(0)));
          f.emit(store.i64(entryAddress.get, entry.get.or(ACCESSED)));
        });
        f.set(table, entry.get.and(ADDRESS));
        f.set(shift, shift.get.sub(9n));
        f.br(again);
      });
      // Bits 20:13 or 29:13 of a large page's entry are reserved; bit 12 is PAT there.
      const below = f.tmp(i64(1n).shl(shift.get).sub(1n));
      f.if(shift.get.gtU(12n).and(entry.get.and(below).and(~0x1fffn).ne(0n)), () =>
        pageFault(PF.PRESENT | PF.RESERVED),
      );

      const userPage = f.tmp(all.get.and(USER).ne(0n));
      const writablePage = f.tmp(all.get.and(WRITABLE).ne(0n));
      f.if(access.and(4).ne(0).and(any.get.and(NO_EXECUTE).ne(0n)), () => pageFault(PF.PRESENT));
      const mayWrite = f.temporary("i32");
      f.if(
        user,
        () => {
          f.if(userPage.eqz(), () => pageFault(PF.PRESENT));
          f.set(mayWrite, writablePage);
        },
        () => {
          const cr4 = load.i64(at(REG.CR4));
          f.if(userPage, () => {
            f.if(access.and(4).ne(0).and(cr4.and(CR4_SMEP).ne(0n)), () => pageFault(PF.PRESENT));
            const overridden = load.i64(at(REG.FLAGS)).and(FLAG_AC).ne(0n).and(access.and(8).eqz());
            f.if(access.and(4).eqz().and(cr4.and(CR4_SMAP).ne(0n)).and(overridden.eqz()), () => pageFault(PF.PRESENT));
          });
          f.set(mayWrite, writablePage.or(load.i64(at(REG.CR0)).and(CR0_WP).eqz()));
        },
      );
      const write = f.tmp(access.and(2).ne(0));
      f.if(write.and(mayWrite.get.eqz()), () => pageFault(PF.PRESENT));
      const wanted = f.tmp(entry.get.or(write.select(i64(ACCESSED | DIRTY), i64(ACCESSED))));
      f.if(wanted.ne(entry.get), () => {
        f.set(entryAddress, f.call(runtime.guestPhysical, entryGpa, i32(3)));
        f.if(entryAddress.get.eqz(), () => f.return(i32(0)));
        f.emit(store.i64(entryAddress.get, wanted));
      });
      const dirty = wanted.and(DIRTY).ne(0n);
      const gpa = f.tmp(entry.get.and(ADDRESS).and(below.not()).or(linear.and(below)));
      finalAccess(gpa, mayWrite.get.and(dirty).select(i32(WALK.WRITABLE), i32(0)));
    });
    f.unreachable();
  });
}

export function defineWalk(module: ModuleBuilder, runtime: CoreRuntime): void {
  defineGuestPhysical(module, runtime);
  defineTranslate(module, runtime);
}
