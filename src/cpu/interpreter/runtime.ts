import type { FunctionReference } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import { defineFpuArithmetic } from "../fpu/arithmetic.js";
import { defineRound } from "../fpu/round.js";
import { declareFpu, type FpuRuntime } from "../fpu/runtime.js";
import { defineSseControl } from "../fpu/sse-control.js";
import { defineUnpack } from "../fpu/unpack.js";
import { defineX87Control } from "../fpu/x87-control.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";
import { defineWalk } from "../mmu/walk.js";
import { defineArithmetic } from "./arithmetic.js";
import { defineControlFlow } from "./control-flow.js";
import { defineMemory } from "./memory-access.js";
import { declareVector, defineVector } from "./vector.js";

/** Functions of the generated module that handlers call. */
export interface CoreRuntime extends VectorRuntime, FpuRuntime {
  readonly [name: string]: FunctionReference;
  /** (linear address, bytes): WebAssembly address to read at, 0 after a fault. */
  readonly readMiss: FunctionReference<readonly ["i64", "i32"], "i32">;
  /** (linear address, bytes): WebAssembly address to write at, LOCAL.BOUNCE if `finishWrite` must follow; 0 after a fault. */
  readonly writeMiss: FunctionReference<readonly ["i64", "i32"], "i32">;
  readonly finishWrite: FunctionReference<readonly [], null>;
  /** (record): effective address, offset in the segment; linear address. */
  readonly offset: FunctionReference<readonly ["i32"], "i64">;
  readonly linear: FunctionReference<readonly ["i32"], "i64">;
  /** (record, distance): linear address at a distance from the operand, wrapped as the address size wants it. */
  readonly linearAt: FunctionReference<readonly ["i32", "i64"], "i64">;
  /** (record): record of the branch target; 0: leave. */
  readonly branch: FunctionReference<readonly ["i32"], "i32">;
  /** (offset in CS): record there; 0: leave. */
  readonly jump: FunctionReference<readonly ["i64"], "i32">;
  /** (vector, error code or -1). */
  readonly raise: FunctionReference<readonly ["i32", "i32"], null>;
  /** High half of the unsigned 128-bit product. */
  readonly multiplyHigh: FunctionReference<readonly ["i64", "i64"], "i64">;
  /** (high, low, divisor): quotient; remainder in LOCAL.SCRATCH. High must be below the divisor. */
  readonly divide128: FunctionReference<readonly ["i64", "i64", "i64"], "i64">;
  /** (linear address, access): WebAssembly address; 0 after a fault. Access: 1 read, 2 write, 4 fetch, 8 as supervisor. */
  readonly translate: FunctionReference<readonly ["i64", "i32"], "i32">;
  /** (guest physical address, rights 1 R 2 W 4 X): WebAssembly address; 0 after a fault. */
  readonly guestPhysical: FunctionReference<readonly ["i64", "i32"], "i32">;
  /** (WebAssembly address, bytes): drops what was decoded from these bytes. */
  readonly invalidate: FunctionReference<readonly ["i32", "i32"], null>;
  /** Empty the TLBs of linear addresses, and the cache of EPT walks. */
  readonly flushLinear: FunctionReference<readonly [], null>;
  readonly flushGuestPhysical: FunctionReference<readonly [], null>;
}

/** Declares and defines the runtime in a module. */
export function defineRuntime(module: ModuleBuilder): CoreRuntime {
  const runtime: CoreRuntime = {
    readMiss: module.declare(["i64", "i32"], "i32"),
    writeMiss: module.declare(["i64", "i32"], "i32"),
    finishWrite: module.declare([], null),
    offset: module.declare(["i32"], "i64"),
    linear: module.declare(["i32"], "i64"),
    linearAt: module.declare(["i32", "i64"], "i64"),
    branch: module.declare(["i32"], "i32"),
    jump: module.declare(["i64"], "i32"),
    raise: module.declare(["i32", "i32"], null),
    multiplyHigh: module.declare(["i64", "i64"], "i64"),
    divide128: module.declare(["i64", "i64", "i64"], "i64"),
    translate: module.declare(["i64", "i32"], "i32"),
    guestPhysical: module.declare(["i64", "i32"], "i32"),
    invalidate: module.declare(["i32", "i32"], null),
    flushLinear: module.declare([], null),
    flushGuestPhysical: module.declare([], null),
    ...declareVector(module),
    ...declareFpu(module),
  };
  defineArithmetic(module, runtime);
  defineUnpack(module, runtime);
  defineRound(module, runtime);
  defineFpuArithmetic(module, runtime);
  defineSseControl(module, runtime);
  defineX87Control(module, runtime);
  defineWalk(module, runtime);
  defineMemory(module, runtime);
  defineControlFlow(module, runtime);
  defineVector(module, runtime);
  return runtime;
}
