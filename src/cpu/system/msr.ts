import { MSR } from "../../arch/msr.js";
import { EXIT_REASON } from "../../arch/vmx.js";
import { CR4 } from "../../arch/x86.js";
import { generalProtection, invalidOpcode, VmExitSignal } from "../faults.js";
import {
  readVirtualRegister,
  requestVirtualInterrupt,
  virtualEoi,
  writeTaskPriority,
} from "../interrupts/virtual-apic.js";
import type { Instruction } from "../isa/instruction.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { edxEax, isCanonical, requirePrivilege, setEdxEax, setGpr } from "./operands.js";

/** An MSR that the TD reaches without an exit. */
interface NativeMsr {
  /** Where it is kept; null: reads as zero and only takes legal writes. */
  readonly at: number | null;
  /** Bits that may be set. */
  readonly writable: bigint;
  readonly canonical?: boolean;
  /** Only RDMSR or only WRMSR reaches it; the other raises #GP(0). */
  readonly only?: "read" | "write";
}

const ALL = (1n << 64n) - 1n;
const segmentBase = (index: number): number => REG.SEGMENTS + index * SEG_SIZE + SEG.BASE;
const X2APIC = { TPR: 0x808, PPR: 0x80a, EOI: 0x80b, SELF_IPI: 0x83f, FIRST: 0x800, LAST: 0x8ff } as const;
const IA32_PRED_CMD_IBPB = 1n;
/** Bits 7:0 and BHI_DIS_S; DDPD_U (bit 8) is not advertised by CPUID(7,2).EDX. */
const SPEC_CTRL_WRITABLE = 0x4ffn;

/** MSRs with storage in the register block (SDM 4; which of them do not exit is the module's bitmap's business). */
const NATIVE: ReadonlyMap<number, NativeMsr> = new Map<number, NativeMsr>([
  [0x48, { at: REG.SPEC_CTRL, writable: SPEC_CTRL_WRITABLE }],
  [0x49, { at: null, writable: IA32_PRED_CMD_IBPB, only: "write" }],
  [0x10b, { at: null, writable: 1n, only: "write" }],
  [0x174, { at: REG.SYSENTER_CS, writable: 0xffff_ffffn }],
  [0x175, { at: REG.SYSENTER_ESP, writable: ALL, canonical: true }],
  [0x176, { at: REG.SYSENTER_EIP, writable: ALL, canonical: true }],
  [0x277, { at: REG.PAT, writable: 0x0707_0707_0707_0707n }],
  [0x600, { at: REG.DS_AREA, writable: ALL, canonical: true }],
  [0xbd, { at: null, writable: 0n, only: "read" }],
  [0xda0, { at: REG.XSS, writable: 0n }],
  [0xc0000081, { at: REG.STAR, writable: ALL }],
  [0xc0000082, { at: REG.LSTAR, writable: ALL, canonical: true }],
  [0xc0000084, { at: REG.FMASK, writable: 0xffff_ffffn }],
  [0xc0000100, { at: segmentBase(SEGMENT.FS), writable: ALL, canonical: true }],
  [0xc0000101, { at: segmentBase(SEGMENT.GS), writable: ALL, canonical: true }],
  [0xc0000102, { at: REG.KERNEL_GS_BASE, writable: ALL, canonical: true }],
  [0xc0000103, { at: REG.TSC_AUX, writable: 0xffff_ffffn }],
  [0xc0000080, { at: REG.EFER, writable: 0n }],
]);

const LOW_LAST = 0x1fff;
const HIGH_FIRST = 0xc000_0000;
const HIGH_LAST = 0xc000_1fff;
/** Quarters of the MSR bitmap: read low, read high, write low, write high (SDM 3C 25.6.9). */
const BITMAP = { HIGH: 1024, WRITE: 2048 } as const;

function exits(environment: CpuEnvironment, index: number, write: boolean): boolean {
  const { controls, physical } = environment;
  if (!controls) return false;
  const high = index >= HIGH_FIRST && index <= HIGH_LAST;
  if (!high && index > LOW_LAST) return true;
  const bit = high ? index - HIGH_FIRST : index;
  const at = controls.msrBitmap + (high ? BITMAP.HIGH : 0) + (write ? BITMAP.WRITE : 0) + (bit >> 3);
  return ((physical.getUint8(at) >> (bit & 7)) & 1) !== 0;
}

function exit(instruction: Instruction, reason: number): never {
  throw new VmExitSignal({ reason, instructionLength: instruction.length });
}

const indexOf = (environment: CpuEnvironment): number => Number(environment.state.gpr(1) & 0xffff_ffffn);

const rdmsr: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const index = indexOf(environment);
  if (exits(environment, index, false)) exit(instruction, EXIT_REASON.MSR_READ);
  if (index === MSR.IA32_TIME_STAMP_COUNTER) setEdxEax(environment, environment.tsc());
  else if (environment.controls && index >= X2APIC.FIRST && index <= X2APIC.LAST) {
    // EOI and SELF IPI are write-only.
    if (index === X2APIC.EOI || index === X2APIC.SELF_IPI) throw generalProtection();
    setEdxEax(environment, BigInt(readVirtualRegister(environment, index)));
  } else {
    const native = NATIVE.get(index);
    if (!native || native.only === "write") throw generalProtection();
    setEdxEax(environment, native.at === null ? BigInt(index === 0xbd ? 1 : 0) : environment.state.get(native.at));
  }
  return "next";
};

const wrmsr: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const { state } = environment;
  const index = indexOf(environment);
  const value = edxEax(environment);
  if (exits(environment, index, true)) exit(instruction, EXIT_REASON.MSR_WRITE);
  if (environment.controls && index >= X2APIC.FIRST && index <= X2APIC.LAST) {
    writeX2apic(environment, index, value);
    return "next";
  }
  const native = NATIVE.get(index);
  if (!native || native.only === "read" || value & ~native.writable) throw generalProtection();
  if (native.canonical && !isCanonical(value)) throw generalProtection();
  if (index === 0x277 && !legalPat(value)) throw generalProtection();
  if (native.at !== null) state.set(native.at, value);
  return "next";
};

function writeX2apic(environment: CpuEnvironment, index: number, value: bigint): void {
  switch (index) {
    case X2APIC.TPR:
      if (value >> 8n) throw generalProtection();
      writeTaskPriority(environment, Number(value));
      break;
    case X2APIC.EOI:
      if (value) throw generalProtection();
      virtualEoi(environment);
      break;
    case X2APIC.SELF_IPI:
      if (value >> 8n) throw generalProtection();
      requestVirtualInterrupt(environment, Number(value));
      break;
    default:
      throw generalProtection();
  }
}

/** Memory types 0, 1, 4, 5, 6 and 7 in every entry. */
function legalPat(value: bigint): boolean {
  for (let n = 0n; n < 64n; n += 8n) {
    const type = (value >> n) & 7n;
    if (type === 2n || type === 3n) return false;
  }
  return true;
}

const swapgs: SystemOperation = (environment) => {
  requirePrivilege(environment);
  const { state } = environment;
  const at = segmentBase(SEGMENT.GS);
  const base = state.get(at);
  state.set(at, state.get(REG.KERNEL_GS_BASE));
  state.set(REG.KERNEL_GS_BASE, base);
  return "next";
};

function requireFsGsBase(environment: CpuEnvironment): void {
  if (!(environment.state.get32(REG.CR4) & CR4.FSGSBASE)) throw invalidOpcode();
}

const readBase =
  (index: number): SystemOperation =>
  (environment, instruction) => {
    requireFsGsBase(environment);
    setGpr(
      environment,
      instruction.rm,
      instruction.operandSize === 8 ? 8 : 4,
      environment.state.get(segmentBase(index)),
    );
    return "next";
  };

const writeBase =
  (index: number): SystemOperation =>
  (environment, instruction) => {
    requireFsGsBase(environment);
    const raw = environment.state.gpr(instruction.rm);
    const value = instruction.operandSize === 8 ? raw : raw & 0xffff_ffffn;
    if (!isCanonical(value)) throw generalProtection();
    environment.state.set(segmentBase(index), value);
    return "next";
  };

export const msrOperations: Readonly<Record<string, SystemOperation>> = {
  rdmsr,
  wrmsr,
  swapgs,
  rdfsbase: readBase(SEGMENT.FS),
  rdgsbase: readBase(SEGMENT.GS),
  wrfsbase: writeBase(SEGMENT.FS),
  wrgsbase: writeBase(SEGMENT.GS),
};
