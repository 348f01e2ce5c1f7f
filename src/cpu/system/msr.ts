import { MSR, X2APIC_MSR } from "../../arch/msr.js";
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
  /** Where it is kept; null: it only takes legal writes. */
  readonly at: number | null;
  /** What it reads as when it is kept nowhere; default 0. */
  readonly reads?: bigint;
  /** Bits that may be set. */
  readonly writable: bigint;
  /** Whether a value of those bits may be written; default: any. */
  readonly legal?: (value: bigint) => boolean;
  /** Only RDMSR or only WRMSR reaches it; the other raises #GP(0). */
  readonly only?: "read" | "write";
}

const ALL = (1n << 64n) - 1n;
const segmentBase = (index: number): number => REG.SEGMENTS + index * SEG_SIZE + SEG.BASE;
const IA32_PRED_CMD_IBPB = 1n;
/** IA32_FLUSH_CMD. */
const L1D_FLUSH = 1n;
/** IA32_XAPIC_DISABLE_STATUS. */
const LEGACY_XAPIC_DISABLED = 1n;
/** Bits 7:0 and BHI_DIS_S; DDPD_U (bit 8) is not advertised by CPUID(7,2).EDX. */
const SPEC_CTRL_WRITABLE = 0x4ffn;

/** MSRs with storage in the register block (SDM 4; which of them do not exit is the module's bitmap's business). */
const NATIVE: ReadonlyMap<number, NativeMsr> = new Map<number, NativeMsr>([
  [MSR.IA32_SPEC_CTRL, { at: REG.SPEC_CTRL, writable: SPEC_CTRL_WRITABLE }],
  [MSR.IA32_PRED_CMD, { at: null, writable: IA32_PRED_CMD_IBPB, only: "write" }],
  [MSR.IA32_FLUSH_CMD, { at: null, writable: L1D_FLUSH, only: "write" }],
  [MSR.IA32_SYSENTER_CS, { at: REG.SYSENTER_CS, writable: 0xffff_ffffn }],
  [MSR.IA32_SYSENTER_ESP, { at: REG.SYSENTER_ESP, writable: ALL, legal: isCanonical }],
  [MSR.IA32_SYSENTER_EIP, { at: REG.SYSENTER_EIP, writable: ALL, legal: isCanonical }],
  [MSR.IA32_PAT, { at: REG.PAT, writable: 0x0707_0707_0707_0707n, legal: legalPat }],
  [MSR.IA32_DS_AREA, { at: REG.DS_AREA, writable: ALL, legal: isCanonical }],
  [MSR.IA32_XAPIC_DISABLE_STATUS, { at: null, reads: LEGACY_XAPIC_DISABLED, writable: 0n, only: "read" }],
  [MSR.IA32_XSS, { at: REG.XSS, writable: 0n }],
  [MSR.IA32_STAR, { at: REG.STAR, writable: ALL }],
  [MSR.IA32_LSTAR, { at: REG.LSTAR, writable: ALL, legal: isCanonical }],
  [MSR.IA32_FMASK, { at: REG.FMASK, writable: 0xffff_ffffn }],
  [MSR.IA32_FS_BASE, { at: segmentBase(SEGMENT.FS), writable: ALL, legal: isCanonical }],
  [MSR.IA32_GS_BASE, { at: segmentBase(SEGMENT.GS), writable: ALL, legal: isCanonical }],
  [MSR.IA32_KERNEL_GS_BASE, { at: REG.KERNEL_GS_BASE, writable: ALL, legal: isCanonical }],
  [MSR.IA32_TSC_AUX, { at: REG.TSC_AUX, writable: 0xffff_ffffn }],
  [MSR.IA32_EFER, { at: REG.EFER, writable: 0n }],
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
  else if (environment.controls && index >= X2APIC_MSR.FIRST && index <= X2APIC_MSR.LAST) {
    // EOI and SELF IPI are write-only.
    if (index === X2APIC_MSR.EOI || index === X2APIC_MSR.SELF_IPI) throw generalProtection();
    setEdxEax(environment, BigInt(readVirtualRegister(environment, index)));
  } else {
    const native = NATIVE.get(index);
    if (!native || native.only === "write") throw generalProtection();
    setEdxEax(environment, native.at === null ? (native.reads ?? 0n) : environment.state.get(native.at));
  }
  return "next";
};

const wrmsr: SystemOperation = (environment, instruction) => {
  requirePrivilege(environment);
  const { state } = environment;
  const index = indexOf(environment);
  const value = edxEax(environment);
  if (exits(environment, index, true)) exit(instruction, EXIT_REASON.MSR_WRITE);
  if (environment.controls && index >= X2APIC_MSR.FIRST && index <= X2APIC_MSR.LAST) {
    writeX2apic(environment, index, value);
    return "next";
  }
  const native = NATIVE.get(index);
  if (!native || native.only === "read" || value & ~native.writable) throw generalProtection();
  if (native.legal?.(value) === false) throw generalProtection();
  if (native.at !== null) state.set(native.at, value);
  return "next";
};

function writeX2apic(environment: CpuEnvironment, index: number, value: bigint): void {
  switch (index) {
    case X2APIC_MSR.TPR:
      if (value >> 8n) throw generalProtection();
      writeTaskPriority(environment, Number(value));
      break;
    case X2APIC_MSR.EOI:
      if (value) throw generalProtection();
      virtualEoi(environment);
      break;
    case X2APIC_MSR.SELF_IPI:
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
