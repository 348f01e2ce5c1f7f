import {
  AUTO_HALT_RESTART,
  SAVE_STATE,
  SAVE_STATE_AREA,
  SAVE_STATE_GPRS,
  SAVE_STATE_ORIGIN,
  SAVE_STATE_SELECTORS,
  type SaveStateField,
  SMM_REVISION,
} from "../arch/smm.js";
import type { EventFields } from "./event-bus.js";
import type { HostRegisters } from "./host-registers.js";
import type { SmmMemory } from "./memory/smm-memory.js";

/** The save state of one logical processor: fields in SMRAM, at its SMBASE. */
export class SaveState {
  constructor(
    private readonly memory: SmmMemory,
    readonly smbase: number,
  ) {}

  #address(field: SaveStateField): number {
    return this.smbase + SAVE_STATE_ORIGIN + SAVE_STATE[field].offset;
  }
  read(field: SaveStateField): bigint {
    return this.memory.read(this.#address(field), SAVE_STATE[field].bytes);
  }
  write(field: SaveStateField, value: bigint): void {
    this.memory.write(this.#address(field), SAVE_STATE[field].bytes, value);
  }

  /** SMM entry: puts the interrupted registers into SMRAM. `halted`: the SMI woke the processor from HLT. */
  save(registers: HostRegisters, halted: boolean, ioMisc: number): void {
    const base = this.smbase + SAVE_STATE_ORIGIN;
    this.memory.fill(base + SAVE_STATE_AREA.FIRST, SAVE_STATE_AREA.END - SAVE_STATE_AREA.FIRST, 0);
    this.write("SMBASE", BigInt(this.smbase));
    this.write("REVISION", BigInt(SMM_REVISION));
    this.write("AUTO_HALT", halted ? BigInt(AUTO_HALT_RESTART) : 0n);
    this.write("IO_MISC", BigInt(ioMisc));
    SAVE_STATE_GPRS.forEach((field, index) => {
      this.write(field, registers.gprs[index] as bigint);
    });
    SAVE_STATE_SELECTORS.forEach((field, index) => {
      this.write(field, BigInt(registers.selectors[index] as number));
    });
    this.write("RIP", registers.rip);
    this.write("RFLAGS", registers.rflags);
    this.write("CR0", registers.cr0);
    this.write("CR3", registers.cr3);
    this.write("CR4", registers.cr4);
    this.write("EFER", registers.efer);
    this.write("DR6", registers.dr6);
    this.write("DR7", registers.dr7);
    this.#writeSplit("GDT_BASE_LOW", "GDT_BASE_HIGH", registers.gdtBase);
    this.#writeSplit("LDT_BASE_LOW", "LDT_BASE_HIGH", registers.ldtBase);
    this.#writeSplit("IDT_BASE_LOW", "IDT_BASE_HIGH", registers.idtBase);
  }

  #writeSplit(low: SaveStateField, high: SaveStateField, value: bigint): void {
    this.write(low, value & 0xffff_ffffn);
    this.write(high, value >> 32n);
  }

  /** RSM: takes the general registers and RIP back, as the handler left them. CR4 in the map is not loaded. */
  restore(registers: HostRegisters): void {
    SAVE_STATE_GPRS.forEach((field, index) => {
      registers.gprs[index] = this.read(field);
    });
    registers.rip = this.read("RIP");
    registers.dr6 = this.read("DR6");
    registers.dr7 = this.read("DR7");
  }
}

/** One logical processor in SMM, as the firmware's handler works with it. */
export interface SmmContext {
  readonly lp: { readonly id: number; readonly package: number };
  readonly saveState: SaveState;
  /** SMIs that this processor has served, this one included. */
  readonly smiCount: number;
  /** RDMSR and WRMSR in SMM: registers of SMM exist, and logs may be rewritten. */
  readMsr(index: number): bigint;
  writeMsr(index: number, value: bigint): void;
  /** A load by the handler through KeyID 0. Poison here is a machine check in SMM: shutdown. */
  readMemory(hpa: number, length: number): Uint8Array;
  /** Arms #MC on this processor for the moment after RSM; machine-check registers stay as the handler leaves them. */
  raiseMachineCheckAtRsm(): void;
  /** Sends the interrupt of LVT CMCI to this processor, if the operating system has set it up. */
  signalCmci(): void;
  wants(event: string): boolean;
  emit(event: string, fields: EventFields): void;
}

/** The firmware's SMI handler. */
export interface SmiHandler {
  /** All processors that came into SMM by one SMI, in order of arrival; the first is the monarch. RSM follows on each. */
  smi(processors: readonly SmmContext[]): void;
}
