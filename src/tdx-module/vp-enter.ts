import { MISC_ENABLE, MSR } from "../arch/msr.js";
import { PAGE_SIZE } from "../arch/page.js";
import { LAST_EXIT, PAGE_TYPE, PAMT_PAGE_SIZE, VCPU_STATE, VP_ENTER } from "../arch/tdx-abi.js";
import { CPUID_BIT } from "../arch/tdx-cpuid.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { PIN_POSTED_INTERRUPTS } from "../arch/vmx.js";
import type { GuestCpu } from "../cpu/guest-cpu.js";
import { REG } from "../cpu/layout.js";
import { GPR } from "../platform/seam.js";
import type { Call } from "./call.js";
import { requireTd } from "./checks.js";
import { cpuidValue } from "./cpuid-values.js";
import { runGuest } from "./exits/loop.js";
import { Run } from "./exits/run.js";
import { pageStillMissing } from "./exits/zero-step.js";
import { fail } from "./failure.js";
import { ALLOWED_OP_STATES } from "./op-states.js";
import { TDCS, TDCX } from "./structures/tdcs.js";
import { TD_VMCS, TDVPS, TDVPS_PAGE, VE } from "./structures/tdvps.js";
import { copyXmm, exitTd, fillSynthetic } from "./td-exit.js";
import { enterEpoch } from "./tracking.js";
import { associate } from "./vcpu-checks.js";

/** Flags of RCX, in its upper half. */
const HINT_HIGH = Number(VP_ENTER.HOST_RECOVERABILITY_HINT >> 32n);
const RESUME_HIGH = Number(VP_ENTER.RESUME_L1 >> 32n);

/** TDH.VP.ENTER. */
export class VpEnter {
  readonly #run: Run;

  constructor(private readonly call: Call) {
    this.#run = new Run(call);
  }

  /** Runs the vCPU until the host is needed. Returns RAX; checks that fail throw. */
  enter(): bigint {
    const { call } = this;
    const { context } = call;
    const flags = this.#check();
    const bound = associate(call);
    this.#checkLast(flags);
    const run = this.#run;
    run.attach(context.guest);
    if (pageStillMissing(run)) return fillSynthetic(run);
    this.#load(bound);
    const { tdvps } = call.vcpu;
    if (tdvps.get(TDVPS.LAST_TD_EXIT) === LAST_EXIT.TDVMCALL) this.#resumeVmcall();
    run.entryRip = context.guest.state.rip;
    run.entryTsc = Number(context.tsc());
    run.steps = 0;
    runGuest(run);
    return exitTd(run);
  }

  /** Checks 1 to 7 of tdx-module facts 4.1, in their order; returns the flags in RCX. */
  #check(): number {
    const { call } = this;
    const { context } = call;
    if ((context.readMsr(MSR.IA32_MISC_ENABLE) & MISC_ENABLE.LIMIT_CPUID_MAXVAL) !== 0n) {
      fail(TDX_STATUS.LIMIT_CPUID_MAXVAL_SET);
    }
    const high = call.in.high(GPR.RCX);
    const flags = high & (HINT_HIGH | RESUME_HIGH);
    const tdvpr = (high & ~flags) * 0x1_0000_0000 + call.in.low(GPR.RCX);
    if (tdvpr % PAGE_SIZE !== 0 || tdvpr >= 2 ** context.platform.keyIdShift)
      fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
    const { pamt, td, vcpu } = call;
    if (!pamt.find(tdvpr) || pamt.type === PAGE_TYPE.RSVD) fail(TDX_STATUS.OPERAND_ADDR_RANGE_ERROR, BigInt(GPR.RCX));
    if (pamt.type !== PAGE_TYPE.TDVPR || pamt.size !== PAMT_PAGE_SIZE.P4K) {
      fail(TDX_STATUS.PAGE_METADATA_INCORRECT, BigInt(GPR.RCX));
    }
    td.open(call.memory, call.state.globalKeyId, pamt.owner(pamt.entry));
    requireTd(call, ALLOWED_OP_STATES.VP_ENTER);
    vcpu.open(call.memory, td.hkid, tdvpr);
    if (!vcpu.openPages()) fail(TDX_STATUS.TDCX_NUM_INCORRECT);
    if (vcpu.tdvps.get(TDVPS.STATE) !== VCPU_STATE.READY) fail(TDX_STATUS.VCPU_STATE_INCORRECT);
    return flags;
  }

  /** Checks 9 to 12; the vCPU is bound to this LP by now. */
  #checkLast(flags: number): void {
    const { call } = this;
    const { context, td } = call;
    const { tdvps } = call.vcpu;
    const trapped = tdvps.get(TDVPS.LAST_TD_EXIT) === LAST_EXIT.ASYNC_TRAP;
    // RESUME_L1 is for TDs with L2 VMs.
    if ((flags & HINT_HIGH && !trapped) || flags & RESUME_HIGH) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
    if (context.readMsr(MSR.IA32_TSC_ADJUST) !== BigInt(call.state.tscAdjust)) {
      fail(TDX_STATUS.INCONSISTENT_MSR, BigInt(MSR.IA32_TSC_ADJUST));
    }
    if (Number(context.tsc()) < tdvps.get(TDVPS.LAST_EXIT_TSC)) fail(TDX_STATUS.TSC_ROLLBACK);
    const monitor = (cpuidValue(td, 1, null, 2) & CPUID_BIT.L1_ECX_MONITOR) !== 0;
    if (monitor && (context.readMsr(MSR.IA32_MISC_ENABLE) & MISC_ENABLE.MONITOR_FSM) === 0n) {
      fail(TDX_STATUS.INCORRECT_MSR_VALUE, BigInt(MSR.IA32_MISC_ENABLE));
    }
  }

  /** Loads the guest, and drops translations that may be stale. */
  #load(bound: boolean): void {
    const { call } = this;
    const { context, td, vcpu } = call;
    const { tdvps } = vcpu;
    const { guest } = context;
    const epoch = enterEpoch(td);
    const stale = bound && tdvps.get(TDVPS.VCPU_EPOCH) !== epoch;
    tdvps.set(TDVPS.VCPU_EPOCH, epoch);
    tdvps.set(TDVPS.STATE, VCPU_STATE.ACTIVE);
    const { loaded } = call.shared;
    if (loaded.get(guest.controls)?.vcpu !== vcpu.pa) {
      this.#loadControls();
      guest.flushTlb();
      loaded.set(guest.controls, { vcpu: vcpu.pa });
    } else if (stale) {
      guest.flushTlb();
    }
    guest.controls.nmiWindowExiting = tdvps.get(TDVPS.PEND_NMI) !== 0 && tdvps.get(VE.VALID) === 0;
    guest.controls.monitorTrapFlag = false;
    this.#loadRegisters(guest);
  }

  /** The registers, with what the host gives back of a TDVMCALL's XMM registers, and an event that is still to be delivered. */
  #loadRegisters(guest: GuestCpu): void {
    const { vcpu, td } = this.call;
    const { tdvps } = vcpu;
    const mask = tdvps.get(TDVPS.VMCALL_MASK) >>> 16;
    const fromHost = mask !== 0 && tdvps.get(TDVPS.LAST_TD_EXIT) === LAST_EXIT.TDVMCALL;
    const hostXmm = fromHost ? guest.state.block().slice(REG.XMM - REG.GPR, REG.XMM - REG.GPR + 256) : null;
    guest.load(tdvps.pages[TDVPS_PAGE.STATE] as number, td.hkid);
    if (hostXmm) copyXmm(this.#run, mask, hostXmm);
    const pending = tdvps.get(TD_VMCS.ENTRY_INTERRUPTION_INFO);
    guest.entryEvent.interruptionInfo = pending;
    if (pending === 0) return;
    guest.entryEvent.errorCode = tdvps.get(TD_VMCS.ENTRY_ERROR_CODE);
    guest.entryEvent.instructionLength = tdvps.get(TD_VMCS.ENTRY_INSTRUCTION_LENGTH);
    tdvps.set(TD_VMCS.ENTRY_INTERRUPTION_INFO, 0);
  }

  #loadControls(): void {
    const { td, vcpu, context } = this.call;
    const { tdvps } = vcpu;
    const { controls } = context.guest;
    controls.keyId = td.hkid;
    controls.septRoot = td.page(TDCX.SEPT_ROOT);
    controls.sharedRoot = tdvps.get(TD_VMCS.SHARED_EPTP);
    controls.gpaw = td.gpaw;
    controls.msrBitmap = td.page(TDCX.MSR_BITMAP);
    controls.virtualApicPage = tdvps.pages[TDVPS_PAGE.VAPIC] as number;
    controls.veInfo = vcpu.pa;
    controls.postedInterrupts = (tdvps.get(TD_VMCS.PIN_CONTROLS) & PIN_POSTED_INTERRUPTS) !== 0;
    controls.postedInterruptDescriptor = tdvps.get(TD_VMCS.DESCRIPTOR_ADDRESS);
    controls.notificationVector = tdvps.get(TD_VMCS.NOTIFICATION_VECTOR);
    controls.cr0Mask = tdvps.get64(TD_VMCS.CR0_MASK);
    controls.cr0Shadow = tdvps.get64(TD_VMCS.CR0_SHADOW);
    controls.cr4Mask = tdvps.get64(TD_VMCS.CR4_MASK);
    controls.cr4Shadow = tdvps.get64(TD_VMCS.CR4_SHADOW);
    controls.tscOffset = tdvps.get64(TD_VMCS.TSC_OFFSET);
    controls.tscMultiplier = tdvps.get64(TD_VMCS.TSC_MULTIPLIER);
    controls.xfam = td.tdcs.get64(TDCS.XFAM);
  }

  /** The TDCALL that left is complete: RAX is 0, and the registers of its mask are the host's. */
  #resumeVmcall(): void {
    const { call } = this;
    const { guest } = this.#run;
    const mask = call.vcpu.tdvps.get(TDVPS.VMCALL_MASK);
    guest.clear(GPR.RAX);
    for (let register: number = GPR.RDX; register <= GPR.R15; register++) {
      if (mask & (1 << register)) guest.copyFrom(call.in, register);
    }
  }
}
