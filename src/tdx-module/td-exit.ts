import { LAST_EXIT, VCPU_STATE } from "../arch/tdx-abi.js";
import { STATUS_HOST_RECOVERABILITY_HINT, TDX_STATUS } from "../arch/tdx-status.js";
import { EXIT_FLAG, EXIT_REASON } from "../arch/vmx.js";
import { REG } from "../cpu/layout.js";
import { GPR } from "../platform/seam.js";
import type { Run } from "./exits/run.js";
import { TDR } from "./structures/tdr.js";
import { TD_VMCS, TDVPS, TDVPS_PAGE } from "./structures/tdvps.js";
import { leaveEpoch } from "./tracking.js";

/** Registers that an asynchronous exit leaves zero; RBP is one of them unless the TD keeps it out. */
const CLEARED = [GPR.RBX, GPR.RSI, GPR.RDI, GPR.R10, GPR.R11, GPR.R12, GPR.R13, GPR.R14, GPR.R15] as const;
const EXPOSABLE = [
  GPR.RDX,
  GPR.RBX,
  GPR.RBP,
  GPR.RSI,
  GPR.RDI,
  GPR.R8,
  GPR.R9,
  GPR.R10,
  GPR.R11,
  GPR.R12,
  GPR.R13,
  GPR.R14,
  GPR.R15,
] as const;
const XMM_SIZE = 16;
const XMM_REGISTERS = 16;

/** Ends a stay in the TD: saves the guest, clears the processor, fills the host's registers. Returns RAX. */
export function exitTd(run: Run): bigint {
  const { call } = run;
  const status = statusOf(run);
  const dead = run.kind === "td-dead" || run.kind === "non-accessible";
  const noRbp = run.kind === "non-accessible" || run.call.td.keepsRbp;
  const isVmcall = run.reason === EXIT_REASON.TDCALL && run.kind === "success";
  const vcpu = run.kind === "non-accessible" ? null : call.vcpu.tdvps.get(TDVPS.VCPU_INDEX);
  if (run.kind !== "non-accessible") {
    reportBusLock(run);
    if (isVmcall) exposeRegisters(run, noRbp);
    saveGuest(run, isVmcall);
  } else {
    run.cpu.clear();
    run.cpu.entryEvent.interruptionInfo = 0;
  }
  if (!isVmcall) fillAsynchronous(run, noRbp);
  const newlyDead = dead && !call.td.fatal;
  if (newlyDead) call.td.tdr.set(TDR.FATAL, 1);
  const rax = status | BigInt(run.reason >>> 0);
  report(run, vcpu, rax, newlyDead);
  return rax;
}

/** An exit that the zero-step mitigation makes without entering: only the host's registers are filled. */
export function fillSynthetic(run: Run): bigint {
  fillAsynchronous(run, run.call.td.keepsRbp);
  return BigInt(run.reason);
}

function statusOf(run: Run): bigint {
  switch (run.kind) {
    case "success":
      return TDX_STATUS.SUCCESS;
    case "vcpu-dead":
      return TDX_STATUS.NON_RECOVERABLE_VCPU;
    default:
      return run.status;
  }
}

/** A bus lock that was seen is told with whatever exit comes. */
function reportBusLock(run: Run): void {
  const { tdvps } = run.call.vcpu;
  if (tdvps.get(TDVPS.BUS_LOCK) === 0) return;
  tdvps.set(TDVPS.BUS_LOCK, 0);
  run.reason |= EXIT_FLAG.BUS_LOCK;
}

function saveGuest(run: Run, isVmcall: boolean): void {
  const { call, cpu } = run;
  const { tdvps } = call.vcpu;
  const event = cpu.entryEvent;
  if (event.interruptionInfo !== 0) {
    tdvps.set(TD_VMCS.ENTRY_INTERRUPTION_INFO, event.interruptionInfo);
    tdvps.set(TD_VMCS.ENTRY_ERROR_CODE, event.errorCode);
    tdvps.set(TD_VMCS.ENTRY_INSTRUCTION_LENGTH, event.instructionLength);
    event.interruptionInfo = 0;
  }
  const mask = isVmcall ? tdvps.get(TDVPS.VMCALL_MASK) >>> 16 : 0;
  const exposed =
    mask === 0 ? null : cpu.state.block().slice(REG.XMM - REG.GPR, REG.XMM - REG.GPR + XMM_SIZE * XMM_REGISTERS);
  cpu.save(tdvps.pages[TDVPS_PAGE.STATE] as number, call.td.hkid);
  cpu.clear();
  if (exposed) copyXmm(run, mask, exposed);
  leaveEpoch(call.td, tdvps.get(TDVPS.VCPU_EPOCH));
  tdvps.set(TDVPS.LAST_EXIT_TSC, Number(call.context.tsc()));
  if (run.kind === "vcpu-dead") {
    tdvps.set(TDVPS.STATE, VCPU_STATE.DISABLED);
  } else if (run.kind === "success" || run.kind === "trap") {
    tdvps.set(TDVPS.STATE, VCPU_STATE.READY);
    const trap = (run.status & STATUS_HOST_RECOVERABILITY_HINT) !== 0n;
    tdvps.set(TDVPS.LAST_TD_EXIT, isVmcall ? LAST_EXIT.TDVMCALL : trap ? LAST_EXIT.ASYNC_TRAP : LAST_EXIT.ASYNC_FAULT);
  }
}

/** Copies the selected XMM registers of a saved set into the processor's. */
export function copyXmm(run: Run, mask: number, from: Uint8Array): void {
  const block = run.cpu.state.block();
  for (let i = 0; i < XMM_REGISTERS; i++) {
    if (mask & (1 << i)) block.set(from.subarray(i * XMM_SIZE, (i + 1) * XMM_SIZE), REG.XMM - REG.GPR + i * XMM_SIZE);
  }
}

/** TDG.VP.VMCALL: the registers of the mask go to the host, the others are zero. */
function exposeRegisters(run: Run, noRbp: boolean): void {
  const { out } = run.call;
  const mask = run.call.vcpu.tdvps.get(TDVPS.VMCALL_MASK);
  for (const register of EXPOSABLE) {
    if (register === GPR.RBP && noRbp) continue;
    if (mask & (1 << register)) out.copyFrom(run.guest, register);
    else out.clear(register);
  }
  out.setHalves(GPR.RCX, mask, 0);
}

/** Outputs of every other exit (tdx-module facts 4.2). The VM index in RCX 33:32 is 0: there are no L2 VMs. */
function fillAsynchronous(run: Run, noRbp: boolean): void {
  const { out } = run.call;
  for (const register of CLEARED) out.clear(register);
  if (!noRbp) out.clear(GPR.RBP);
  out.setHalves(GPR.RCX, run.qualification >>> 0, 0);
  out.setHalves(GPR.RDX, run.extendedType, run.extendedInfo);
  out.setNumber(GPR.R8, run.gpa);
  out.setHalves(GPR.R9, run.interruptionInfo, 0);
}

function report(run: Run, vcpu: number | null, status: bigint, newlyDead: boolean): void {
  const { context, td } = run.call;
  if (context.wants("td-exit")) {
    const fields = { reason: run.reason >>> 0, qualification: BigInt(run.qualification >>> 0), status };
    context.emit("td-exit", vcpu, fields);
  }
  if (newlyDead && context.wants("td-fatal")) context.emit("td-fatal", vcpu, { tdr: BigInt(td.pa), status });
}
