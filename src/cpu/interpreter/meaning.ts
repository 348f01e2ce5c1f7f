import { type I32, type I64, i32, i64, load, store, type V128, v128 } from "../../wasm/expression.js";
import type { FunctionBuilder, Local } from "../../wasm/function.js";
import type { Condition, FlagValues, Meaning } from "../isa/meaning.js";
import { operandBytes } from "../isa/row.js";
import type { Variant } from "../isa/variants.js";
import { EXIT, FPU_TRAP, LOCAL, RECORD, REG, TLB } from "../layout.js";
import { fetchSlot } from "../mmu/tlb.js";
import type { CoreRuntime } from "./runtime.js";

/** How one handler reaches what the main loop keeps in locals and a handler of its own keeps in memory. */
export interface Frame {
  /** Address of the record. */
  readonly record: I32;
  readonly flag: Readonly<Record<FlagWord, I64>>;
  setFlag(word: FlagWord, value: I64): void;
  readonly dataTlb: I32;
  readonly budget: I32;
  setBudget(value: I32): void;
  /** Goes on at a record; `null`: with the next one. */
  proceed(record: I32 | null): void;
  /** Leaves the executor with the instruction undone (LOCAL.EXIT has been set). */
  undo(): void;
  /** Leaves the executor with the instruction done (LOCAL.EXIT and RIP have been set). */
  leave(): void;
}

/** The five words of the lazy flags, named as in `layout.ts`. */
export type FlagWord = "FZ" | "FN" | "FX" | "FY" | "FS";

/** Blocking by STI (SDM 3C table 25-3). */
const STI_BLOCKING = 1;
const at = (address: number): I32 => i32(address);
const LOAD_SIGNED = { 1: load.i64_8S, 2: load.i64_16S, 4: load.i64_32S, 8: load.i64 } as Record<
  number,
  typeof load.i64
>;
const LOAD_UNSIGNED = { 1: load.i64_8U, 2: load.i64_16U, 4: load.i64_32U, 8: load.i64 } as Record<
  number,
  typeof load.i64
>;
const STORE = { 1: store.i64_8, 2: store.i64_16, 4: store.i64_32, 8: store.i64 } as Record<number, typeof store.i64>;
const FIXED_REGISTER: Record<string, number> = { AL: 0, AX: 0, eAX: 0, rAX: 0, CL: 1, DX: 2 };

/** The builder behind the meaning of a row, for one handler of the interpreter. */
export class InterpreterMeaning implements Meaning {
  readonly size: number;
  readonly memory: boolean;
  readonly repeat: Variant["repeat"];
  readonly addressSize: number;
  /** Set when the meaning touched flags or budget. */
  usesFlags = false;
  #linear: I64 | null = null;
  /** WebAssembly address of the memory operand probed for writing. */
  #target: I32 | null = null;
  #update: I32 | null = null;

  constructor(
    readonly f: FunctionBuilder,
    readonly runtime: CoreRuntime,
    private readonly variant: Variant,
    private readonly frame: Frame,
  ) {
    this.size = variant.size;
    this.memory = variant.addressing !== "none";
    this.repeat = variant.repeat;
    this.addressSize = variant.addressSize;
  }

  bytes(n: number): number {
    const operand = this.variant.row.operands[n];
    if (!operand) throw new Error(`operand ${n} of ${this.variant.row.source.mnemonic}`);
    switch (operand.fixed) {
      case "AL":
      case "CL":
        return 1;
      case "AX":
      case "DX":
        return 2;
      case "eAX":
        return Math.min(this.size, 4);
      case "rAX":
        return this.size;
    }
    if (operand.kind === "I" || operand.kind === "sI" || operand.kind === "J") return this.size;
    return operandBytes(operand.size, this.size);
  }

  #isMemory(n: number): boolean {
    return this.memory && n === this.variant.row.memoryOperand;
  }

  /** WebAssembly address of register operand n. */
  #registerAddress(n: number): I32 {
    const operand = this.variant.row.operands[n];
    if (operand?.fixed) return at(REG.GPR + (FIXED_REGISTER[operand.fixed] as number) * 8);
    const before = this.variant.row.operands
      .slice(0, n)
      .filter((other, m) => this.#takesSlot(other.kind) && !this.#isMemory(m));
    return load.i32_16U(this.frame.record, before.length === 0 ? RECORD.REG0 : RECORD.REG1);
  }
  #takesSlot(kind: string): boolean {
    return ["E", "G", "R", "Z", "V", "W", "U", "P", "Q", "N", "S", "T"].includes(kind);
  }

  record(): I32 {
    return this.frame.record;
  }
  immediate(): I64 {
    return load.i64(this.frame.record, RECORD.IMMEDIATE);
  }

  read(n: number): I64 {
    return this.#read(n, false);
  }
  readUnsigned(n: number): I64 {
    return this.#read(n, true);
  }
  #read(n: number, unsigned: boolean): I64 {
    const operand = this.variant.row.operands[n];
    if (operand?.kind === "I" || operand?.kind === "sI") return this.f.tmp(this.immediate());
    if (operand?.fixed === "1") return i64(1n);
    const bytes = this.bytes(n);
    if (this.#isMemory(n)) return this.load(this.linear(), bytes, unsigned);
    return this.f.tmp(((unsigned ? LOAD_UNSIGNED : LOAD_SIGNED)[bytes] as typeof load.i64)(this.#registerAddress(n)));
  }

  update(n: number): I64 {
    if (!this.#isMemory(n)) return this.read(n);
    const bytes = this.bytes(n);
    const address = this.#probe(this.linear(), bytes, true);
    this.#target = address;
    return this.f.tmp((LOAD_SIGNED[bytes] as typeof load.i64)(address));
  }

  prepareWrite(n: number): void {
    if (this.#isMemory(n)) this.#target = this.#probe(this.linear(), this.bytes(n), true);
  }

  write(n: number, value: I64): void {
    const bytes = this.bytes(n);
    if (this.#isMemory(n)) {
      const target = this.#target ?? this.#probe(this.linear(), bytes, true);
      this.f.emit((STORE[bytes] as typeof store.i64)(target, value));
      this.finishWrite(target);
      return;
    }
    this.#storeRegister(this.#registerAddress(n), bytes, value);
  }

  #storeRegister(address: I32, bytes: number, value: I64): void {
    if (bytes === 4) this.f.emit(store.i64(address, value.and(0xffff_ffffn)));
    else this.f.emit((STORE[bytes] as typeof store.i64)(address, value));
  }

  /** After a store through `#probe(..., true)`: what went to the bounce buffer goes to its place. */
  finishWrite(target: I32): void {
    this.f.if(target.eq(LOCAL.BOUNCE), () => this.f.callStatement(this.runtime.finishWrite));
  }

  /** WebAssembly address for an access of so many bytes, or leaves with the fault. */
  #probe(address: I64, bytes: number, write: boolean): I32 {
    const { f } = this;
    const linear = address.constant === undefined ? f.tmp(address) : address;
    const result = f.temporary("i32");
    const low = linear.toI32();
    const entry = f.tmp(
      low
        .shrU(7)
        .and((TLB.DATA_ENTRIES - 1) * TLB.DATA_ENTRY_SIZE)
        .add(this.frame.dataTlb),
    );
    const page = (bytes === 1 ? linear : linear.add(BigInt(bytes - 1))).and(-4096n);
    f.if(
      load.i64(entry, write ? 8 : 0).eq(page),
      () => f.set(result, low.add(load.i32(entry, 16))),
      () => {
        f.set(result, f.call(write ? this.runtime.writeMiss : this.runtime.readMiss, linear, i32(bytes)));
        f.if(result.get.eqz(), () => this.frame.undo());
      },
    );
    return result.get;
  }

  offset(): I64 {
    const { record } = this.frame;
    switch (this.variant.addressing) {
      case "base":
        return this.f.tmp(this.#base());
      case "index":
        return this.f.tmp(this.#base().add(this.#index()));
      default:
        return this.f.tmp(this.f.call(this.runtime.offset, record));
    }
  }
  #base(): I64 {
    const { record } = this.frame;
    return load.i64(load.i32_16U(record, RECORD.BASE)).add(load.i64_32S(record, RECORD.DISPLACEMENT));
  }
  #index(): I64 {
    const { record } = this.frame;
    return load.i64(load.i32_16U(record, RECORD.INDEX)).shl(load.i64_8U(record, RECORD.SCALE));
  }
  linear(): I64 {
    if (this.#linear) return this.#linear;
    const { record } = this.frame;
    if (this.variant.row.operands[this.variant.row.memoryOperand]?.kind === "O") {
      // The offset may be a full 64-bit address: it is the record's immediate.
      const address = this.immediate().add(load.i64(load.i32_16U(record, RECORD.SEGMENT)));
      this.#linear = this.f.tmp(address.and(load.i64(at(LOCAL.CODE_MASK))));
      return this.#linear;
    }
    switch (this.variant.addressing) {
      case "base":
        this.#linear = this.f.tmp(this.#base());
        break;
      case "index":
        this.#linear = this.f.tmp(
          this.#base()
            .add(this.#index())
            .add(load.i64(load.i32_16U(record, RECORD.SEGMENT))),
        );
        break;
      default:
        this.#linear = this.f.tmp(this.f.call(this.runtime.linear, record));
    }
    return this.#linear;
  }

  linearAt(distance: I64): I64 {
    return this.f.tmp(this.f.call(this.runtime.linearAt, this.frame.record, distance));
  }
  currentLinear(): I64 {
    return this.f.tmp(this.f.call(this.runtime.linear, this.frame.record));
  }

  register(index: number, bytes: number, unsigned = false): I64 {
    return this.f.tmp(((unsigned ? LOAD_UNSIGNED : LOAD_SIGNED)[bytes] as typeof load.i64)(at(REG.GPR + index * 8)));
  }
  setRegister(index: number, bytes: number, value: I64): void {
    this.#storeRegister(at(REG.GPR + index * 8), bytes, value);
  }

  load(address: I64, bytes: number, unsigned = false): I64 {
    return this.f.tmp(
      ((unsigned ? LOAD_UNSIGNED : LOAD_SIGNED)[bytes] as typeof load.i64)(this.#probe(address, bytes, false)),
    );
  }
  store(address: I64, bytes: number, value: I64): void {
    const target = this.#probe(address, bytes, true);
    this.f.emit((STORE[bytes] as typeof store.i64)(target, value));
    this.finishWrite(target);
  }
  loadForUpdate(address: I64, bytes: number): I64 {
    this.#update = this.#probe(address, bytes, true);
    return this.f.tmp((LOAD_SIGNED[bytes] as typeof load.i64)(this.#update));
  }
  storeBack(bytes: number, value: I64): void {
    if (!this.#update) throw new Error("storeBack without loadForUpdate");
    this.f.emit((STORE[bytes] as typeof store.i64)(this.#update, value));
    this.finishWrite(this.#update);
  }
  readAddress(address: I64, bytes: number): I32 {
    return this.#probe(address, bytes, false);
  }
  writeAddress(address: I64, bytes: number): I32 {
    return this.#probe(address, bytes, true);
  }
  #checkAligned(address: I64): void {
    this.raiseIf(address.and(15n).ne(0n), 13, 0);
  }
  load128(address: I64, aligned: boolean): V128 {
    const linear = this.f.tmp(address);
    if (aligned) this.#checkAligned(linear);
    return this.f.tmp(load.v128(this.#probe(linear, 16, false)));
  }
  store128(address: I64, value: V128, aligned: boolean): void {
    const linear = this.f.tmp(address);
    if (aligned) this.#checkAligned(linear);
    const target = this.#probe(linear, 16, true);
    this.f.emit(store.v128(target, value));
    this.finishWrite(target);
  }

  vectorAddress(n: number): I32 {
    return this.#registerAddress(n);
  }
  readVector(n: number): V128 {
    const operand = this.variant.row.operands[n];
    if (!operand) throw new Error(`operand ${n}`);
    const isMmx = operand.kind === "P" || operand.kind === "Q" || operand.kind === "N";
    if (this.#isMemory(n)) {
      const bytes = this.bytes(n);
      if (bytes === 16) return this.load128(this.linear(), this.variant.row.source.aligned ?? false);
      return this.f.tmp(v128(0n, 0n).withLane64(0, this.load(this.linear(), bytes, true)));
    }
    if (isMmx) return this.f.tmp(v128(0n, 0n).withLane64(0, load.i64(this.#registerAddress(n))));
    return this.f.tmp(load.v128(this.#registerAddress(n)));
  }
  writeVector(n: number, value: V128): void {
    const operand = this.variant.row.operands[n];
    if (!operand) throw new Error(`operand ${n}`);
    const isMmx = operand.kind === "P" || operand.kind === "Q" || operand.kind === "N";
    if (this.#isMemory(n)) {
      const bytes = this.bytes(n);
      if (bytes === 16) this.store128(this.linear(), value, this.variant.row.source.aligned ?? false);
      else this.store(this.linear(), bytes, value.lane64(0));
      return;
    }
    if (isMmx) {
      const address = this.#registerAddress(n);
      this.f.emit(store.i64(address, value.lane64(0)));
      this.f.emit(store.i32_16(address, i32(0xffff), 8));
      return;
    }
    this.f.emit(store.v128(this.#registerAddress(n), value));
  }

  flagsAdd(x: I64, y: I64, s: I64): void {
    this.#setWords(s, s, x, y, s);
  }
  flagsSubtract(a: I64, b: I64, r: I64): void {
    this.#setWords(r, r, r, b, a);
  }
  flagsLogic(r: I64): void {
    this.#setWords(r, r, i64(0n), i64(0n), i64(0n));
  }
  #setWords(z: I64, n: I64, x: I64, y: I64, s: I64): void {
    this.usesFlags = true;
    this.frame.setFlag("FX", x);
    this.frame.setFlag("FY", y);
    this.frame.setFlag("FS", s);
    this.frame.setFlag("FZ", z);
    this.frame.setFlag("FN", n);
  }
  get #flag(): Readonly<Record<FlagWord, I64>> {
    this.usesFlags = true;
    return this.frame.flag;
  }
  /** Negative when CF is set, and so on: flags as the sign of an i64. */
  #carrySign(): I64 {
    const { FX, FY, FS } = this.#flag;
    return FX.and(FY).or(FX.or(FY).and(FS.not()));
  }
  #overflowSign(): I64 {
    const { FX, FY, FS } = this.#flag;
    return FX.xor(FS).and(FY.xor(FS));
  }
  #carry(): I32 {
    return this.#carrySign().ltS(0n);
  }
  #overflow(): I32 {
    return this.#overflowSign().ltS(0n);
  }
  #adjust(): I32 {
    const { FX, FY, FS } = this.#flag;
    return FX.xor(FY).xor(FS).toI32().shrU(4).and(1);
  }
  setFlags(values: FlagValues): void {
    const { f } = this;
    const carry = f.tmp((values.carry ?? this.#carry()).toI64U());
    const overflow = f.tmp((values.overflow ?? this.#overflow()).toI64U());
    const adjust = f.tmp((values.adjust ?? this.#adjust()).toI64U());
    this.usesFlags = true;
    const high = f.tmp(carry.shl(63n));
    this.frame.setFlag("FX", high.or(adjust.shl(4n)));
    this.frame.setFlag("FY", high);
    this.frame.setFlag("FS", carry.xor(overflow).shl(63n));
    if (values.result) {
      this.frame.setFlag("FZ", values.result);
      this.frame.setFlag("FN", values.result);
    }
  }
  setFlagBits(bits: I64): void {
    const { f } = this;
    const flags = f.tmp(bits);
    const bit = (n: bigint): I64 => flags.shrU(n).and(1n);
    const high = f.tmp(flags.shl(63n));
    this.#setWords(
      bit(6n).xor(1n),
      bit(7n).shl(63n).or(bit(2n).xor(1n)),
      high.or(flags.and(0x10n)),
      high,
      bit(0n).xor(bit(11n)).shl(63n),
    );
  }
  flagBits(): I64 {
    const { FZ } = this.#flag;
    const word = (value: I32, n: bigint): I64 => value.toI64U().shl(n);
    return this.f.tmp(
      word(this.#carry(), 0n)
        .or(word(this.condition("p"), 2n))
        .or(word(this.#adjust(), 4n))
        .or(word(FZ.eqz(), 6n))
        .or(word(this.condition("s"), 7n))
        .or(word(this.#overflow(), 11n)),
    );
  }
  condition(code: Condition): I32 {
    const { FZ, FN } = this.#flag;
    switch (code) {
      case "o":
        return this.#overflow();
      case "no":
        return this.#overflowSign().geS(0n);
      case "b":
        return this.#carry();
      case "ae":
        return this.#carrySign().geS(0n);
      case "e":
        return FZ.eqz();
      case "ne":
        return FZ.ne(0n);
      case "be":
        return FZ.eqz().or(this.#carry());
      case "a":
        return FZ.ne(0n).and(this.#carrySign().geS(0n));
      case "s":
        return FN.ltS(0n);
      case "ns":
        return FN.geS(0n);
      case "p":
        return FN.and(0xffn).popcnt().toI32().and(1).xor(1);
      case "np":
        return FN.and(0xffn).popcnt().toI32().and(1);
      case "l":
        return FN.xor(this.#overflowSign()).ltS(0n);
      case "ge":
        return FN.xor(this.#overflowSign()).geS(0n);
      case "le":
        return FZ.eqz().or(FN.xor(this.#overflowSign()).ltS(0n));
      case "g":
        return FZ.ne(0n).and(FN.xor(this.#overflowSign()).geS(0n));
    }
  }

  /** Linear address of the stack at an offset that has been masked. */
  #stackLinear(pointer: I64): I64 {
    if (!this.variant.legacy) return pointer;
    return pointer.add(load.i64(at(LOCAL.STACK_BASE))).and(0xffff_ffffn);
  }
  #stackPointer(delta: bigint): I64 {
    const rsp = load.i64(at(REG.GPR + 4 * 8));
    const moved = delta === 0n ? rsp : rsp.add(delta);
    return this.variant.legacy ? moved.and(load.i64(at(LOCAL.STACK_MASK))) : moved;
  }
  #setStackPointer(value: I64): void {
    const rsp = at(REG.GPR + 4 * 8);
    if (!this.variant.legacy) {
      this.f.emit(store.i64(rsp, value));
      return;
    }
    const mask = load.i64(at(LOCAL.STACK_MASK));
    this.f.emit(store.i64(rsp, load.i64(rsp).and(mask.not()).or(value.and(mask)).and(0xffff_ffffn)));
  }
  push(value: I64, bytes: number): void {
    const pointer = this.f.tmp(this.#stackPointer(BigInt(-bytes)));
    this.store(this.#stackLinear(pointer), bytes, value);
    this.#setStackPointer(pointer);
  }
  stackTop(above = 0): I64 {
    return this.f.tmp(this.#stackLinear(this.#stackPointer(BigInt(above))));
  }
  addStack(bytes: number | I64): void {
    const rsp = load.i64(at(REG.GPR + 4 * 8));
    this.#setStackPointer(typeof bytes === "number" ? rsp.add(BigInt(bytes)) : rsp.add(bytes));
  }

  /** Offset in CS of the instruction itself. */
  #rip(): I64 {
    const { record } = this.frame;
    return load.i64(at(LOCAL.PAGE_BASE)).add(load.i64_16U(record, RECORD.OFFSET));
  }
  nextRip(): I64 {
    const next = this.#rip().add(load.i64_8U(this.frame.record, RECORD.LENGTH));
    return this.f.tmp(this.variant.legacy ? next.and(0xffff_ffffn) : next);
  }
  branch(): void {
    const { f, frame } = this;
    const target = f.temporary("i32");
    f.set(target, load.i32(frame.record, RECORD.TARGET));
    f.if(target.get.eqz(), () => {
      f.set(target, f.call(this.runtime.branch, frame.record));
      f.if(target.get.eqz(), () => frame.leave());
    });
    frame.proceed(target.get);
  }
  branchIf(condition: I32): void {
    this.f.if(condition, () => this.branch());
  }
  checkTarget(target: I64): void {
    this.raiseIf(target.shl(16n).shrS(16n).ne(target), 13, 0);
  }
  jump(target: I64): void {
    const { f, frame } = this;
    const record = f.temporary("i32");
    f.set(record, i32(0));
    if (this.variant.hot) this.#jumpKnown(target, record);
    f.if(record.get.eqz(), () => {
      f.set(record, f.call(this.runtime.jump, target));
      f.if(record.get.eqz(), () => frame.leave());
    });
    frame.proceed(record.get);
  }

  /** The way of `runtime.jump` when the page is in the fetch TLB; the hot handlers are those of 64-bit code, whose CS is flat. */
  #jumpKnown(target: I64, record: Local<"i32">): void {
    const { f } = this;
    const page = f.tmp(target.and(-4096n));
    const entry = f.tmp(fetchSlot(target));
    f.if(
      load
        .i64(entry)
        .eq(page)
        .and(load.i64(at(LOCAL.CODE_MASK)).eq(-1n)),
      () => {
        const index = f.tmp(load.i32(entry, 8));
        const found = f.tmp(load.i32(index.add(target.toI32().and(0xfff).shl(2))));
        f.if(found, () => {
          f.emit(store.i64(at(LOCAL.PAGE_BASE), page));
          f.emit(store.i32(at(LOCAL.PAGE_INDEX), index));
          f.set(record, found);
        });
      },
    );
  }

  raise(vector: number, errorCode = -1): void {
    this.f.callStatement(this.runtime.raise, i32(vector), i32(errorCode));
    this.frame.undo();
  }
  raiseIf(condition: I32, vector: number, errorCode = -1): void {
    this.f.if(condition, () => this.raise(vector, errorCode));
  }
  fault(raised: I32): void {
    this.f.if(raised, () => this.frame.undo());
  }
  #trap(ud: number, nm: number): void {
    this.f.if(load.i32(at(LOCAL.FPU_TRAPS)).and(ud | nm), () => {
      if (ud) this.raiseIf(load.i32(at(LOCAL.FPU_TRAPS)).and(ud), 6);
      this.raise(7);
    });
  }
  /** A pending unmasked x87 exception: ES in the status word. */
  #pendingX87(): void {
    this.raiseIf(load.i32_16U(at(REG.FSW)).and(0x80), 16);
  }
  requireSse(): void {
    this.#trap(FPU_TRAP.SSE_UD, FPU_TRAP.SSE_NM);
  }
  requireX87(): void {
    this.#trap(0, FPU_TRAP.X87_NM);
    this.#pendingX87();
  }
  requireMmx(): void {
    this.#trap(FPU_TRAP.MMX_UD, FPU_TRAP.MMX_NM);
    this.#pendingX87();
  }

  budget(): I32 {
    this.usesFlags = true;
    return this.frame.budget;
  }
  setBudget(value: I32): void {
    this.usesFlags = true;
    this.frame.setBudget(value);
  }
  interrupt(): void {
    this.f.emit(store.i64(at(REG.RIP), this.#rip()));
    this.f.emit(store.i32(at(LOCAL.EXIT), i32(EXIT.BUDGET)));
    this.frame.leave();
  }

  shadowNext(): void {
    const { f } = this;
    const blocked = load.i32(at(REG.INTERRUPTIBILITY));
    f.emit(store.i32(at(REG.INTERRUPTIBILITY), blocked.or(STI_BLOCKING)));
    f.emit(store.i32(at(LOCAL.SHADOW_BUDGET), this.budget()));
    f.if(load.i32(at(LOCAL.INTERRUPT_WINDOW)), () => {
      f.emit(store.i32(at(LOCAL.BUDGET_REST), this.budget()));
      f.emit(store.i32(at(LOCAL.SHADOW_BUDGET), i32(0)));
      this.setBudget(i32(0));
    });
  }

  /** Emits the handler: the row's meaning, then on to the next record. */
  build(): void {
    const meaning = this.variant.row.source.meaning;
    if (!meaning) throw new Error(`${this.variant.row.source.mnemonic} has no meaning`);
    meaning(this);
    this.frame.proceed(null);
  }
}
