import { MSR } from "../arch/msr.js";
import { ProcessorFault } from "./faults.js";
import { COMMAND_MSRS, type ResetContext, STORED_MSRS } from "./msr-table.js";

/** A register that is more than storage. Without `write` it is read only. */
export interface LiveMsr {
  read(): bigint;
  write?(value: bigint): void;
}

const WRITABLE = new Map(STORED_MSRS.map(({ index, writable }) => [index, writable]));

/** Model-specific registers of one logical processor. Whatever does not exist is #GP. */
export class MsrFile {
  readonly #values = new Map<number, bigint>();
  readonly #live = new Map<number, LiveMsr>();

  constructor(context: ResetContext) {
    for (const { index, reset } of STORED_MSRS) {
      this.#values.set(index, typeof reset === "bigint" ? reset : reset(context));
    }
  }

  /** Puts a register with a behaviour of its own in place. */
  define(index: number, msr: LiveMsr): void {
    this.#live.set(index, msr);
  }

  read(index: number): bigint {
    const live = this.#live.get(index);
    if (live) return live.read();
    const value = this.#values.get(index);
    if (value === undefined) throw new ProcessorFault("gp", `RDMSR 0x${index.toString(16)}: no such register`);
    return value;
  }

  write(index: number, value: bigint): void {
    const live = this.#live.get(index);
    if (live?.write) {
      live.write(BigInt.asUintN(64, value));
      return;
    }
    if (COMMAND_MSRS.has(index)) return;
    const writable = WRITABLE.get(index) ?? null;
    const old = this.#values.get(index);
    if (live || old === undefined || writable === null) {
      throw new ProcessorFault(
        "gp",
        `WRMSR 0x${index.toString(16)}: ${old === undefined ? "no such register" : "read only"}`,
      );
    }
    this.#values.set(index, (old & ~writable) | (BigInt.asUintN(64, value) & writable));
  }

  /** Sets a stored register as firmware or hardware does, past the rules of WRMSR. */
  preset(index: number, value: bigint): void {
    if (!this.#values.has(index)) throw new RangeError(`MSR 0x${index.toString(16)} is not a stored register`);
    this.#values.set(index, value);
  }

  /** Register numbers with their values, for inspection; live registers of SMM and SEAM are left out. */
  entries(): ReadonlyMap<number, bigint> {
    return new Map([...this.#values, [MSR.SMI_COUNT, this.read(MSR.SMI_COUNT)]]);
  }
}
