import { ByteWriter } from "./bytes.js";
import { type Expression, F32, F64, I32, I64, TYPE, V128, type ValueType } from "./expression.js";

/** The expression class of each value type. */
export interface ExpressionOf {
  i32: I32;
  i64: I64;
  f32: F32;
  f64: F64;
  v128: V128;
}

const MAKE = { i32: I32, i64: I64, f32: F32, f64: F64, v128: V128 } as const;

/** A local variable: `get` reads it at the moment that the expression is computed. */
export interface Local<T extends ValueType = ValueType> {
  readonly index: number;
  readonly type: T;
  readonly get: ExpressionOf[T];
}

/** A place to branch to. The builder counts the depth. */
export interface Label {
  readonly level: number;
}

/** A function that can be called before it is defined. */
export interface FunctionReference<
  P extends readonly ValueType[] = readonly ValueType[],
  R extends ValueType | null = ValueType | null,
> {
  readonly index: number;
  readonly parameters: P;
  readonly result: R;
}

/** Writes the body of one function. Temporaries are pooled per `scope`, so that a large function has few locals. */
export class FunctionBuilder {
  readonly #body = new ByteWriter(1024);
  readonly #types: ValueType[] = [];
  readonly #free = new Map<ValueType, Local[]>();
  #taken: Local[] = [];
  #level = 0;
  readonly parameters: readonly Local[];

  constructor(parameters: readonly ValueType[]) {
    this.parameters = parameters.map((type) => this.#declare(type));
    this.#parameterCount = parameters.length;
  }
  readonly #parameterCount: number;

  #declare<T extends ValueType>(type: T): Local<T> {
    const index = this.#types.length;
    this.#types.push(type);
    const emit = (out: ByteWriter): void => {
      out.byte(0x20);
      out.unsigned(index);
    };
    return { index, type, get: new MAKE[type](emit) as ExpressionOf[T] };
  }

  parameter<T extends ValueType>(index: number, type: T): Local<T> {
    const local = this.parameters[index];
    if (local?.type !== type) throw new Error(`parameter ${index} is not ${type}`);
    return local as Local<T>;
  }

  /** A local of its own for the whole function, zero at the start. */
  local<T extends ValueType>(type: T): Local<T> {
    return this.#declare(type);
  }

  /** A local from the pool, given back at the end of the innermost `scope`. Its value is undefined until it is set. */
  temporary<T extends ValueType>(type: T): Local<T> {
    const local = (this.#free.get(type)?.pop() as Local<T> | undefined) ?? this.#declare(type);
    this.#taken.push(local);
    return local;
  }

  /** Computes an expression once, now; the result can be used any number of times until the end of the scope. */
  tmp<E extends Expression>(value: E): E {
    const local = this.temporary(value.type);
    this.set(local, value as never);
    return local.get as unknown as E;
  }

  /** Temporaries taken inside are free again behind it. */
  scope(body: () => void): void {
    const outer = this.#taken;
    this.#taken = [];
    body();
    for (const local of this.#taken) {
      const pool = this.#free.get(local.type) ?? [];
      pool.push(local);
      this.#free.set(local.type, pool);
    }
    this.#taken = outer;
  }

  emit(statement: (out: ByteWriter) => void): void {
    statement(this.#body);
  }

  set<T extends ValueType>(local: Local<T>, value: ExpressionOf[T]): void {
    value.emit(this.#body);
    this.#body.byte(0x21);
    this.#body.unsigned(local.index);
  }

  #structured(code: number, body: (label: Label) => void): void {
    this.#body.byte(code);
    this.#body.byte(0x40);
    this.#level++;
    body({ level: this.#level });
    this.#level--;
    this.#body.byte(0x0b);
  }

  /** Branching to the label leaves the block. */
  block(body: (exit: Label) => void): void {
    this.#structured(0x02, body);
  }

  /** Branching to the label starts the next turn. */
  loop(body: (again: Label) => void): void {
    this.#structured(0x03, body);
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    condition.emit(this.#body);
    this.#body.byte(0x04);
    this.#body.byte(0x40);
    this.#level++;
    then();
    if (otherwise) {
      this.#body.byte(0x05);
      otherwise();
    }
    this.#level--;
    this.#body.byte(0x0b);
  }

  br(label: Label): void {
    this.#body.byte(0x0c);
    this.#body.unsigned(this.#level - label.level);
  }

  brIf(label: Label, condition: I32): void {
    condition.emit(this.#body);
    this.#body.byte(0x0d);
    this.#body.unsigned(this.#level - label.level);
  }

  brTable(value: I32, labels: readonly Label[], otherwise: Label): void {
    value.emit(this.#body);
    this.#body.byte(0x0e);
    this.#body.unsigned(labels.length);
    for (const label of labels) this.#body.unsigned(this.#level - label.level);
    this.#body.unsigned(this.#level - otherwise.level);
  }

  return(value?: Expression): void {
    value?.emit(this.#body);
    this.#body.byte(0x0f);
  }

  unreachable(): void {
    this.#body.byte(0x00);
  }

  /** A call as an expression. */
  call<R extends ValueType>(
    target: FunctionReference<readonly ValueType[], R>,
    ...operands: Expression[]
  ): ExpressionOf[R] {
    if (target.result === null) throw new Error("a call without result is a statement: callStatement");
    return new MAKE[target.result]((out) => this.#call(out, target, operands)) as ExpressionOf[R];
  }

  /** A call as a statement; a result is dropped. */
  callStatement(target: FunctionReference, ...operands: Expression[]): void {
    this.#call(this.#body, target, operands);
    if (target.result !== null) this.#body.byte(0x1a);
  }

  #call(out: ByteWriter, target: FunctionReference, operands: readonly Expression[]): void {
    if (operands.length !== target.parameters.length) throw new Error("wrong number of operands");
    operands.forEach((operand, n) => {
      if (operand.type !== target.parameters[n])
        throw new Error(`operand ${n} is ${operand.type}, not ${target.parameters[n]}`);
      operand.emit(out);
    });
    out.byte(0x10);
    out.unsigned(target.index);
  }

  /** An indirect call through table 0 as an i32 expression; `typeIndex` from `ModuleBuilder.type`. */
  callIndirect(typeIndex: number, slot: I32, ...operands: Expression[]): I32 {
    return new I32((out) => {
      for (const operand of operands) operand.emit(out);
      slot.emit(out);
      out.byte(0x11);
      out.unsigned(typeIndex);
      out.byte(0);
    });
  }

  /** The body in the binary format: locals, code, end. */
  encode(): Uint8Array {
    const out = new ByteWriter(this.#body.length + 64);
    const locals = this.#types.slice(this.#parameterCount);
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of locals) {
      const last = runs[runs.length - 1];
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    out.unsigned(runs.length);
    for (const { type, count } of runs) {
      out.unsigned(count);
      out.byte(TYPE[type]);
    }
    out.raw(this.#body.bytes());
    out.byte(0x0b);
    return out.bytes();
  }
}
