import { X2APIC_MSR } from "../../arch/msr.js";
import { VIRTUAL_APIC } from "../../arch/vmx.js";
import type { CpuEnvironment } from "../system/environment.js";

/**
 * The virtual APIC of a TD in x2APIC mode: APIC-register virtualization and virtual-interrupt delivery on the 4 KiB
 * virtual-APIC page (SDM 3C chapter 30). RVI and SVI are not kept: they are the highest bits of vIRR and vISR.
 */

const pageOf = (environment: CpuEnvironment): number => environment.controls?.virtualApicPage ?? 0;

/** Highest vector of a 256-bit register (eight 32-bit words, 16 bytes apart), -1 if it is empty. */
function highest(environment: CpuEnvironment, register: number): number {
  const base = pageOf(environment) + register;
  for (let n = 7; n >= 0; n--) {
    const word = environment.physical.getUint32(base + n * 16, true);
    if (word !== 0) return n * 32 + 31 - Math.clz32(word);
  }
  return -1;
}

function setBit(environment: CpuEnvironment, register: number, vector: number, value: boolean): void {
  const at = pageOf(environment) + register + (vector >> 5) * 16;
  const mask = 1 << (vector & 31);
  const word = environment.physical.getUint32(at, true);
  environment.physical.setUint32(at, value ? word | mask : word & ~mask, true);
}

/** Processor priority: the higher of task priority and the class in service. */
function updatePpr(environment: CpuEnvironment): number {
  const tpr = environment.physical.getUint32(pageOf(environment) + VIRTUAL_APIC.TPR, true) & 0xff;
  const service = Math.max(highest(environment, VIRTUAL_APIC.ISR), 0);
  const ppr = tpr >> 4 >= service >> 4 ? tpr : service & 0xf0;
  environment.physical.setUint32(pageOf(environment) + VIRTUAL_APIC.PPR, ppr, true);
  return ppr;
}

/** Puts a vector into vIRR. */
export function requestVirtualInterrupt(environment: CpuEnvironment, vector: number): void {
  setBit(environment, VIRTUAL_APIC.IRR, vector, true);
}

/** Vector of a virtual interrupt whose class is above the processor priority, -1 if there is none. */
export function pendingVirtualInterrupt(environment: CpuEnvironment): number {
  const vector = highest(environment, VIRTUAL_APIC.IRR);
  if (vector < 0) return -1;
  return vector >> 4 > updatePpr(environment) >> 4 ? vector : -1;
}

/** Takes the pending virtual interrupt into service. */
export function acceptVirtualInterrupt(environment: CpuEnvironment): number {
  const vector = highest(environment, VIRTUAL_APIC.IRR);
  setBit(environment, VIRTUAL_APIC.IRR, vector, false);
  setBit(environment, VIRTUAL_APIC.ISR, vector, true);
  updatePpr(environment);
  return vector;
}

/** Undoes an acceptance whose delivery could not begin. */
export function returnVirtualInterrupt(environment: CpuEnvironment, vector: number): void {
  setBit(environment, VIRTUAL_APIC.ISR, vector, false);
  setBit(environment, VIRTUAL_APIC.IRR, vector, true);
  updatePpr(environment);
}

/** EOI virtualization: the highest vector in service is done. */
export function virtualEoi(environment: CpuEnvironment): void {
  const vector = highest(environment, VIRTUAL_APIC.ISR);
  if (vector >= 0) setBit(environment, VIRTUAL_APIC.ISR, vector, false);
  updatePpr(environment);
}

export function readTaskPriority(environment: CpuEnvironment): number {
  return environment.physical.getUint32(pageOf(environment) + VIRTUAL_APIC.TPR, true) & 0xff;
}

export function writeTaskPriority(environment: CpuEnvironment, value: number): void {
  environment.physical.setUint32(pageOf(environment) + VIRTUAL_APIC.TPR, value & 0xff, true);
  updatePpr(environment);
}

/** A 32-bit register of the page, by its x2APIC MSR number. */
export function readVirtualRegister(environment: CpuEnvironment, msr: number): number {
  return environment.physical.getUint32(pageOf(environment) + (msr - X2APIC_MSR.FIRST) * 16, true);
}
