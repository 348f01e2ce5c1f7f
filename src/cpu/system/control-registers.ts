import { CR_ACCESS, EXIT_REASON } from "../../arch/vmx.js";
import { CR0, CR4, EFER } from "../../arch/x86.js";
import { CpuException, generalProtection, invalidOpcode, VECTOR, VmExitSignal } from "../faults.js";
import { readTaskPriority, writeTaskPriority } from "../interrupts/virtual-apic.js";
import type { Instruction } from "../isa/instruction.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { inUse } from "./extended-state.js";
import { readRm, requirePrivilege, setGpr, writeRm } from "./operands.js";

/** CR4 bits that our CPUID advertises; setting another one is #GP(0). */
const CR4_KNOWN =
  CR4.VME |
  CR4.PVI |
  CR4.TSD |
  CR4.DE |
  CR4.PSE |
  CR4.PAE |
  CR4.MCE |
  CR4.PGE |
  CR4.PCE |
  CR4.OSFXSR |
  CR4.OSXMMEXCPT |
  CR4.VMXE |
  CR4.FSGSBASE |
  CR4.PCIDE |
  CR4.OSXSAVE |
  CR4.SMEP |
  CR4.SMAP;
const CR0_KNOWN = CR0.PE | CR0.MP | CR0.EM | CR0.TS | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.NW | CR0.CD | CR0.PG;

function exitForAccess(instruction: Instruction, cr: number, access: number, gpr: number): never {
  const qualification = BigInt(cr | (access << CR_ACCESS.TYPE_SHIFT) | (gpr << CR_ACCESS.GPR_SHIFT));
  throw new VmExitSignal({ reason: EXIT_REASON.CR_ACCESS, qualification, instructionLength: instruction.length });
}

/** What the guest reads: bits that the host owns come from the shadow. */
function shadowed(environment: CpuEnvironment, cr: 0 | 4): bigint {
  const { state, controls } = environment;
  const value = state.get(cr === 0 ? REG.CR0 : REG.CR4);
  if (!controls) return value;
  const mask = cr === 0 ? controls.cr0Mask : controls.cr4Mask;
  const shadow = cr === 0 ? controls.cr0Shadow : controls.cr4Shadow;
  return (value & ~mask) | (shadow & mask);
}

/** Bits that the host owns keep their real value in a write that does not exit. */
function merged(environment: CpuEnvironment, cr: 0 | 4, value: bigint): bigint {
  const { state, controls } = environment;
  if (!controls) return value;
  const mask = cr === 0 ? controls.cr0Mask : controls.cr4Mask;
  return (value & ~mask) | (state.get(cr === 0 ? REG.CR0 : REG.CR4) & mask);
}

const mustExit = (mask: bigint, shadow: bigint, value: bigint): boolean => ((value ^ shadow) & mask) !== 0n;

/** Writes CR0 with the architecture's checks, entering or leaving IA-32e mode with PG. */
export function writeCr0(environment: CpuEnvironment, value: bigint): void {
  const { state } = environment;
  const next = Number(value & 0xffff_ffffn) >>> 0;
  const on = (bit: number): boolean => (next & bit) !== 0;
  if (value >> 32n || (on(CR0.PG) && !on(CR0.PE)) || (on(CR0.NW) && !on(CR0.CD))) throw generalProtection();
  const before = state.get32(REG.CR0);
  const efer = state.get32(REG.EFER);
  const cr4 = state.get32(REG.CR4);
  if (on(CR0.PG) && !(before & CR0.PG)) {
    if (efer & EFER.LME) {
      const csLong = state.get32(REG.SEGMENTS + SEGMENT.CS * SEG_SIZE + SEG.RIGHTS) & 0x2000;
      if (!(cr4 & CR4.PAE) || csLong) throw generalProtection();
      state.set(REG.EFER, BigInt(efer | EFER.LMA));
    }
  } else if (!on(CR0.PG) && before & CR0.PG) {
    if (state.longMode || cr4 & CR4.PCIDE) throw generalProtection();
    state.set(REG.EFER, BigInt(efer & ~EFER.LMA));
  }
  state.set(REG.CR0, BigInt((next & CR0_KNOWN) >>> 0) | BigInt(CR0.ET));
  environment.flushAll();
  environment.modeChanged();
}

/** Writes CR4 with the architecture's checks. */
export function writeCr4(environment: CpuEnvironment, value: bigint): void {
  const { state } = environment;
  const next = Number(value & 0xffff_ffffn);
  const before = state.get32(REG.CR4);
  if (value & ~BigInt(CR4_KNOWN)) throw generalProtection();
  const lma = (state.get32(REG.EFER) & EFER.LMA) !== 0;
  if (lma && !(next & CR4.PAE)) throw generalProtection();
  if (next & CR4.PCIDE && !(before & CR4.PCIDE) && (!lma || state.get(REG.CR3) & 0xfffn)) throw generalProtection();
  state.set(REG.CR4, value);
  environment.flushAll();
  environment.modeChanged();
}

function writeCr3(environment: CpuEnvironment, value: bigint): void {
  const { state } = environment;
  const pcid = (state.get32(REG.CR4) & CR4.PCIDE) !== 0;
  // With PCIDs bit 63 only says that nothing need be flushed; more is flushed here than must be.
  const next = pcid ? value & ~(1n << 63n) : value;
  if (next >> 52n) throw generalProtection();
  state.set(REG.CR3, next);
  environment.flushNonGlobal();
}

const CONTROL_REGISTERS = [0, 2, 3, 4, 8];

function requireControlRegister(environment: CpuEnvironment, instruction: Instruction): void {
  if (!CONTROL_REGISTERS.includes(instruction.reg)) throw invalidOpcode();
  requirePrivilege(environment);
}

const movToCr: SystemOperation = (environment, instruction) => {
  requireControlRegister(environment, instruction);
  const { state, controls } = environment;
  const wide = state.longMode;
  const raw = state.gpr(instruction.rm);
  const value = wide ? raw : raw & 0xffff_ffffn;
  switch (instruction.reg) {
    case 0:
      if (controls && mustExit(controls.cr0Mask, controls.cr0Shadow, value))
        exitForAccess(instruction, 0, CR_ACCESS.MOV_TO_CR, instruction.rm);
      writeCr0(environment, merged(environment, 0, value));
      return "next";
    case 2:
      state.set(REG.CR2, value);
      return "next";
    case 3:
      writeCr3(environment, value);
      return "next";
    case 4:
      if (controls && mustExit(controls.cr4Mask, controls.cr4Shadow, value))
        exitForAccess(instruction, 4, CR_ACCESS.MOV_TO_CR, instruction.rm);
      writeCr4(environment, merged(environment, 4, value));
      return "next";
    case 8:
      if (value > 15n) throw generalProtection();
      writeTaskPriority(environment, Number(value) << 4);
      return "next";
    default:
      throw invalidOpcode();
  }
};

const movFromCr: SystemOperation = (environment, instruction) => {
  requireControlRegister(environment, instruction);
  const { state } = environment;
  const value = ((): bigint => {
    switch (instruction.reg) {
      case 0:
        return shadowed(environment, 0);
      case 2:
        return state.get(REG.CR2);
      case 3:
        return state.get(REG.CR3);
      case 4:
        return shadowed(environment, 4);
      case 8:
        return BigInt(readTaskPriority(environment) >> 4);
      default:
        throw invalidOpcode();
    }
  })();
  setGpr(environment, instruction.rm, state.longMode ? 8 : 4, value);
  return "next";
};

const clts: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const { state, controls } = environment;
  const ts = BigInt(CR0.TS);
  if (controls && controls.cr0Mask & controls.cr0Shadow & ts) exitForAccess(instruction, 0, CR_ACCESS.CLTS, 0);
  // A bit that the host owns and that the guest believes clear stays what it is.
  if (controls && controls.cr0Mask & ts) return "next";
  state.set(REG.CR0, state.get(REG.CR0) & ~ts);
  environment.modeChanged();
  return "next";
};

/** LMSW changes PE (only to 1), MP, EM and TS. */
const lmsw: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const source = readRm(environment, instruction, 2) & 0xfn;
  const { state, controls } = environment;
  if (controls) {
    const differing = (source ^ controls.cr0Shadow) & controls.cr0Mask;
    // LMSW cannot clear PE: only setting it is a change.
    if (differing & 0xen || differing & source & 1n) {
      const memory = instruction.memory ? CR_ACCESS.LMSW_MEMORY : 0;
      throw new VmExitSignal({
        reason: EXIT_REASON.CR_ACCESS,
        qualification:
          BigInt((CR_ACCESS.LMSW << CR_ACCESS.TYPE_SHIFT) | memory) | (source << BigInt(CR_ACCESS.LMSW_SOURCE_SHIFT)),
        guestLinearAddress: instruction.memory ? environment.linearAddress(instruction, 2) : 0n,
        instructionLength: instruction.length,
      });
    }
  }
  const value = (state.get(REG.CR0) & ~0xen) | source;
  writeCr0(environment, merged(environment, 0, value));
  return "next";
};

const smsw: SystemOperation = (environment, instruction) => {
  const value = shadowed(environment, 0);
  writeRm(environment, instruction, instruction.memory ? 2 : instruction.operandSize, value);
  return "next";
};

const DR7_GD = 1n << 13n;
const DR6_BD = 1n << 13n;
const DR6_FIXED = 0xffff_0ff0n;
const DR7_WRITABLE = 0xffff_23ffn;

function debugRegister(environment: CpuEnvironment, instruction: Instruction): number {
  const { state } = environment;
  const { reg } = instruction;
  if (reg > 7) throw invalidOpcode();
  const alias = reg === 4 || reg === 5;
  if (alias && state.get32(REG.CR4) & CR4.DE) throw invalidOpcode();
  requirePrivilege(environment);
  if (state.get(REG.DR + 40) & DR7_GD) {
    state.set(REG.DR + 32, state.get(REG.DR + 32) | DR6_BD);
    throw new CpuException(VECTOR.DB);
  }
  const number = alias ? reg + 2 : reg;
  return REG.DR + (number >= 6 ? number - 2 : number) * 8;
}

const movFromDr: SystemOperation = (environment, instruction) => {
  const at = debugRegister(environment, instruction);
  setGpr(environment, instruction.rm, environment.state.longMode ? 8 : 4, environment.state.get(at));
  return "next";
};

const movToDr: SystemOperation = (environment, instruction) => {
  const at = debugRegister(environment, instruction);
  const { state } = environment;
  const raw = state.gpr(instruction.rm);
  const value = state.longMode ? raw : raw & 0xffff_ffffn;
  if (at >= REG.DR + 32 && value >> 32n) throw generalProtection();
  if (at === REG.DR + 32) state.set(at, (value & 0xe00fn) | DR6_FIXED);
  else if (at === REG.DR + 40) state.set(at, (value & DR7_WRITABLE) | 0x400n);
  else state.set(at, value);
  return "next";
};

const xgetbv: SystemOperation = (environment) => {
  const { state } = environment;
  if (!(state.get32(REG.CR4) & CR4.OSXSAVE)) throw invalidOpcode();
  const index = state.gpr(1) & 0xffff_ffffn;
  if (index > 1n) throw generalProtection();
  const value = index === 0n ? state.get(REG.XCR0) : state.get(REG.XCR0) & inUse(environment);
  state.setGpr(0, value & 0xffff_ffffn);
  state.setGpr(2, value >> 32n);
  return "next";
};

export const controlRegisterOperations: Readonly<Record<string, SystemOperation>> = {
  "mov-to-cr": movToCr,
  "mov-from-cr": movFromCr,
  "mov-to-dr": movToDr,
  "mov-from-dr": movFromDr,
  clts,
  lmsw,
  smsw,
  xgetbv,
};
