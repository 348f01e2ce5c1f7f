import { EXIT_REASON } from "../../arch/vmx.js";
import { CpuException, generalProtection, invalidOpcode, VECTOR, VmExitSignal } from "../faults.js";
import type { Instruction } from "../isa/instruction.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { flagsOf, requirePrivilege } from "./operands.js";

/** A VM exit of an instruction; without SEAM non-root there is nobody to exit to, and the instruction is undefined. */
export function exitTo(
  environment: CpuEnvironment,
  instruction: Instruction,
  reason: number,
  qualification = 0n,
  instructionInfo = 0,
): VmExitSignal {
  if (!environment.controls) throw invalidOpcode();
  return new VmExitSignal({ reason, qualification, instructionLength: instruction.length, instructionInfo });
}

/** An instruction that always exits, with the privilege check that comes first. */
const exits =
  (reason: number, privileged: boolean): SystemOperation =>
  (environment, instruction) => {
    if (privileged) requirePrivilege(environment);
    return exitTo(environment, instruction, reason);
  };

/** TDCALL: #GP(0) at CPL > 0; outside 64-bit mode the module decides (tdx-module facts 3.1). */
const tdcall: SystemOperation = (environment, instruction) => {
  if (!environment.controls) throw invalidOpcode();
  requirePrivilege(environment);
  return exitTo(environment, instruction, EXIT_REASON.TDCALL);
};

/** Instructions that are not advertised: #UD at CPL > 0 and an exit at CPL 0. */
const supervisorOnly =
  (reason: number): SystemOperation =>
  (environment, instruction) => {
    if (environment.state.cpl !== 0) throw invalidOpcode();
    return exitTo(environment, instruction, reason);
  };

const VMX_REASON: Readonly<Record<string, number>> = {
  vmlaunch: EXIT_REASON.VMLAUNCH,
  vmresume: EXIT_REASON.VMRESUME,
  vmxoff: EXIT_REASON.VMXOFF,
  vmxon: EXIT_REASON.VMXON,
  vmptrld: EXIT_REASON.VMPTRLD,
  vmclear: EXIT_REASON.VMCLEAR,
  vmptrst: EXIT_REASON.VMPTRST,
  vmread: EXIT_REASON.VMREAD,
  vmwrite: EXIT_REASON.VMWRITE,
  invept: EXIT_REASON.INVEPT,
  invvpid: EXIT_REASON.INVVPID,
};

/** Exit qualification bits of an I/O instruction (SDM 3C table 28-5). */
const IO = { IN: 8n, STRING: 16n, REP: 32n, IMMEDIATE: 64n, PORT_SHIFT: 16n } as const;

/** I/O permission: CPL <= IOPL, else the bitmap of the TSS. */
function checkPort(environment: CpuEnvironment, port: number, bytes: number): void {
  const { state, linear } = environment;
  if (state.cpl <= ((flagsOf(environment) >> 12) & 3)) return;
  const tss = REG.SEGMENTS + SEGMENT.TR * SEG_SIZE;
  const base = state.get(tss + SEG.BASE);
  const limit = state.get32(tss + SEG.LIMIT);
  if (limit < 0x67) throw generalProtection();
  const map = Number(linear.read(base + 0x66n, 2, true));
  const at = map + (port >> 3);
  if (at + 1 > limit) throw generalProtection();
  const bits = Number(linear.read(base + BigInt(at), 2, true)) >> (port & 7);
  if (bits & ((1 << bytes) - 1)) throw generalProtection();
}

const io =
  (input: boolean, string: boolean): SystemOperation =>
  (environment, instruction) => {
    const immediate = !string && instruction.opcode < 0xe8;
    const bytes = instruction.opcode & 1 ? Math.min(instruction.operandSize, 4) : 1;
    const port = immediate ? Number(instruction.immediate & 0xffn) : Number(environment.state.gpr(2) & 0xffffn);
    checkPort(environment, port, bytes);
    let qualification = BigInt(bytes - 1) | (BigInt(port) << IO.PORT_SHIFT);
    if (input) qualification |= IO.IN;
    if (string) qualification |= IO.STRING;
    if (string && instruction.repeat) qualification |= IO.REP;
    if (immediate) qualification |= IO.IMMEDIATE;
    return exitTo(environment, instruction, EXIT_REASON.IO_INSTRUCTION, qualification);
  };

const undefinedInstruction: SystemOperation = () => {
  throw invalidOpcode();
};

export const exitOperations: Readonly<Record<string, SystemOperation>> = {
  cpuid: exits(EXIT_REASON.CPUID, false),
  hlt: exits(EXIT_REASON.HLT, true),
  invd: exits(EXIT_REASON.INVD, true),
  wbinvd: exits(EXIT_REASON.WBINVD, true),
  rdpmc: (environment, instruction) => {
    const enabled = (environment.state.get32(REG.CR4) & 0x100) !== 0;
    if (!enabled) requirePrivilege(environment);
    return exitTo(environment, instruction, EXIT_REASON.RDPMC);
  },
  vmcall: exits(EXIT_REASON.VMCALL, false),
  tdcall,
  seamcall: exits(EXIT_REASON.SEAMCALL, false),
  "seam-ud": undefinedInstruction,
  getsec: exits(EXIT_REASON.GETSEC, false),
  rsm: exits(EXIT_REASON.RSM, false),
  encls: supervisorOnly(EXIT_REASON.ENCLS),
  pconfig: supervisorOnly(EXIT_REASON.PCONFIG),
  // Without a look at CPL: in VMX non-root operation the exit comes first (SDM 3C 31.3, operation of each).
  vmx: (environment, instruction) => exitTo(environment, instruction, VMX_REASON[instruction.mnemonic] as number),
  xsetbv: (environment, instruction) => {
    if (!(environment.state.get32(REG.CR4) & 0x4_0000)) throw invalidOpcode();
    requirePrivilege(environment);
    return exitTo(environment, instruction, EXIT_REASON.XSETBV);
  },
  monitor: supervisorOnly(EXIT_REASON.MONITOR),
  mwait: supervisorOnly(EXIT_REASON.MWAIT),
  in: io(true, false),
  out: io(false, false),
  ins: io(true, true),
  outs: io(false, true),
  ud: undefinedInstruction,
  bound: (environment, instruction) => {
    const bytes = instruction.operandSize;
    const address = environment.linearAddress(instruction, bytes * 2);
    const signed = (value: bigint): bigint => BigInt.asIntN(bytes * 8, value);
    const lower = signed(environment.linear.read(address, bytes));
    const upper = signed(environment.linear.read(address + BigInt(bytes), bytes));
    const index = signed(environment.state.gpr(instruction.reg));
    if (index < lower || index > upper) throw new CpuException(VECTOR.BR);
    return "next";
  },
};
