import { IO_MISC_IO_SMI } from "../arch/smm.js";
import type { EventFields } from "./event-bus.js";
import type { LogicalProcessor } from "./logical-processor.js";
import type { Platform } from "./platform.js";
import type { SmiHandler, SmmContext } from "./smm.js";

/** APM command port: the usual source of a software SMI. */
export const APM_PORT = 0xb2;

/**
 * The platform's side of SMIs: broadcasts, and the rendezvous of the processors that one SMI has called. A processor that
 * arrives before the last one waits in SMM; processors in SEAM arrive after their SEAMRET. There is no timeout.
 */
export class SmiController {
  /** The firmware's handler. Without one, SMM is left as it was entered. */
  handler: SmiHandler | null = null;
  /** Processors that the broadcast under way still waits for, and those that have come. */
  readonly #expected = new Set<LogicalProcessor>();
  #arrived: LogicalProcessor[] = [];
  readonly #ioMisc = new Map<LogicalProcessor, number>();
  readonly #platform: Platform;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  /** A chipset SMI: every logical processor gets one. */
  broadcast(): void {
    const called = this.#platform.lps.filter((lp) => lp.mode !== "shutdown" && !lp.inSmm);
    for (const lp of called) this.#expected.add(lp);
    for (const lp of called) lp.raise("smi");
  }

  /** The host writes `command` to the APM port on `lp`: an I/O SMI there, a plain SMI for all others. */
  softwareSmi(lp: LogicalProcessor): void {
    // IO_MISC: length 1 in 3:1, type OUT imm8 in 7:4, port in 31:16.
    this.#ioMisc.set(lp, (IO_MISC_IO_SMI | (1 << 1) | (8 << 4) | (APM_PORT << 16)) >>> 0);
    this.broadcast();
  }

  /** IO_MISC for the SMI that is being taken. */
  takeIoMisc(lp: LogicalProcessor): number {
    const value = this.#ioMisc.get(lp) ?? 0;
    this.#ioMisc.delete(lp);
    return value;
  }

  /** A processor has entered SMM. When it is the last one called, the handler runs and all of them leave. */
  arrive(lp: LogicalProcessor): void {
    const called = this.#expected.delete(lp);
    if (called) {
      this.#arrived.push(lp);
      this.#complete(lp);
    } else this.#serve([lp], lp);
  }

  /** A processor has shut down: nobody waits for it any more. */
  leave(lp: LogicalProcessor): void {
    if (this.#expected.delete(lp)) this.#complete(null);
  }

  #complete(last: LogicalProcessor | null): void {
    if (this.#expected.size > 0 || this.#arrived.length === 0) return;
    const processors = this.#arrived;
    this.#arrived = [];
    this.#serve(processors, last);
  }

  #serve(processors: readonly LogicalProcessor[], last: LogicalProcessor | null): void {
    this.handler?.smi(processors.map((lp) => this.#context(lp)));
    for (const lp of processors) lp.resume();
    // The last one is in the middle of its own events and goes on with them.
    for (const lp of processors) if (lp !== last) lp.openEvents();
  }

  #context(lp: LogicalProcessor): SmmContext {
    const { memory, events } = this.#platform;
    return {
      lp: { id: lp.id, package: lp.package },
      saveState: lp.saveState(),
      smiCount: lp.smiCount,
      readMsr: (index) => lp.readMsr(index),
      writeMsr: (index, value) => lp.writeMsr(index, value),
      readMemory: (hpa, length) => {
        this.#platform.current = lp;
        return memory.host.read(hpa, length);
      },
      raiseMachineCheckAtRsm: () => lp.armMachineCheckAtRsm(),
      signalCmci: () => lp.signalCmci(),
      wants: (event) => events.wants(event),
      emit: (event: string, fields: EventFields) => lp.emit("smm", event, fields),
    };
  }
}
