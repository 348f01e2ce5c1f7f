import { MSR } from "../arch/msr.js";
import { ATTRIBUTES } from "../arch/tdx-abi.js";
import { XFAM } from "../arch/tdx-cpuid.js";
import { VMCS_CONTROLS } from "../arch/tdx-vmcs.js";
import { REG, SEGMENT } from "../cpu/layout.js";
import { GPR } from "../platform/seam.js";
import type { Call } from "./call.js";
import { CR, cr4Mask } from "./control-registers.js";
import { cpuidIndex } from "./cpuid-values.js";
import { TDCS, TDCX } from "./structures/tdcs.js";
import { TD_VMCS, TDVPS, TDVPS_PAGE } from "./structures/tdvps.js";

/** State of a vCPU after TDH.VP.INIT (tdx-module facts 7.7 and 7.8). */

const DATA_SEGMENTS = [SEGMENT.ES, SEGMENT.SS, SEGMENT.DS, SEGMENT.FS, SEGMENT.GS] as const;
const LIMIT_4G = 0xffff_ffff;
/** Reset values of registers that are not zero. */
const RESET = {
  RIP: 0xffff_fff0n,
  RFLAGS: 2n,
  CR0: 0x21n,
  CR4: 0x2040n,
  EFER: 0x901n,
  XCR0: 1n,
  PAT: 0x0007_0406_0007_0406n,
  FMASK: 0x20200n,
  DR6: 0xffff_0ff0n,
  DR7: 0x400n,
  FCW: 0x37f,
  FTW: 0xffff,
  MXCSR: 0x1f80,
  CODE_RIGHTS: 0xc09b,
  DATA_RIGHTS: 0xc093,
  LDTR_RIGHTS: 0x10082,
  TR_RIGHTS: 0x8b,
  TABLE_LIMIT: 0xffff,
} as const;
/** DR6 and DR7 in the block of debug registers. */
const DR6 = REG.DR + 32;
const DR7 = REG.DR + 40;

/** Puts the first state of the vCPU into its TDVPS pages. `argument` is what it finds in RCX and R8. */
export function writeInitialState(call: Call, vcpuIndex: number, argument: bigint): void {
  writeRegisters(call, vcpuIndex, argument);
  writeVmcs(call);
}

function writeRegisters(call: Call, vcpuIndex: number, argument: bigint): void {
  const { guest } = call.context;
  const { state } = guest;
  state.block().fill(0);
  state.setGpr(GPR.RBX, BigInt(call.td.gpaw));
  state.setGpr(GPR.RCX, argument);
  state.setGpr(GPR.R8, argument);
  state.setGpr(GPR.RDX, BigInt(call.state.nativeCpuid[cpuidIndex(1, null)]?.[0] ?? 0));
  state.setGpr(GPR.RSI, BigInt(vcpuIndex));
  state.rip = RESET.RIP;
  state.rflags = RESET.RFLAGS;
  state.set(REG.CR0, RESET.CR0);
  state.set(REG.CR4, RESET.CR4);
  state.set(REG.EFER, RESET.EFER);
  state.set(REG.XCR0, RESET.XCR0);
  state.set(REG.PAT, RESET.PAT);
  state.set(REG.FMASK, RESET.FMASK);
  state.set(DR6, RESET.DR6);
  state.set(DR7, RESET.DR7);
  const flat = { selector: 0, base: 0n, limit: LIMIT_4G };
  state.setSegment(SEGMENT.CS, { ...flat, rights: RESET.CODE_RIGHTS });
  for (const segment of DATA_SEGMENTS) state.setSegment(segment, { ...flat, rights: RESET.DATA_RIGHTS });
  state.setSegment(SEGMENT.LDTR, { selector: 0, base: 0n, limit: RESET.TABLE_LIMIT, rights: RESET.LDTR_RIGHTS });
  state.setSegment(SEGMENT.TR, { selector: 0, base: 0n, limit: RESET.TABLE_LIMIT, rights: RESET.TR_RIGHTS });
  state.set32(REG.GDTR_LIMIT, RESET.TABLE_LIMIT);
  state.set32(REG.IDTR_LIMIT, RESET.TABLE_LIMIT);
  state.set16(REG.FCW, RESET.FCW);
  state.set16(REG.FTW, RESET.FTW);
  state.set32(REG.MXCSR, RESET.MXCSR);
  guest.save(call.vcpu.tdvps.pages[TDVPS_PAGE.STATE] as number, call.td.hkid);
  guest.clear();
}

function writeVmcs(call: Call): void {
  const { td, vcpu, context } = call;
  const { tdvps } = vcpu;
  const xfam = td.tdcs.get(TDCS.XFAM);
  const attributes = td.tdcs.get64(TDCS.ATTRIBUTES);
  tdvps.set(TD_VMCS.PIN_CONTROLS, VMCS_CONTROLS.PIN);
  tdvps.set(TD_VMCS.PROCESSOR_CONTROLS, VMCS_CONTROLS.PROCESSOR);
  tdvps.set(TD_VMCS.SECONDARY_CONTROLS, VMCS_CONTROLS.SECONDARY);
  tdvps.set(TD_VMCS.EXIT_CONTROLS, VMCS_CONTROLS.EXIT);
  tdvps.set(TD_VMCS.ENTRY_CONTROLS, VMCS_CONTROLS.ENTRY);
  tdvps.set(TD_VMCS.EXCEPTION_BITMAP, VMCS_CONTROLS.EXCEPTION_BITMAP);
  tdvps.set(TD_VMCS.HKID, td.hkid);
  tdvps.set(TD_VMCS.EPTP, td.page(TDCX.SEPT_ROOT) + td.tdcs.get(TDCS.EPTP_CONTROLS));
  tdvps.set(TD_VMCS.MSR_BITMAP_ADDRESS, td.page(TDCX.MSR_BITMAP));
  tdvps.set64(TD_VMCS.TSC_OFFSET, td.tdcs.get64(TDCS.TSC_OFFSET));
  tdvps.set64(TD_VMCS.TSC_MULTIPLIER, td.tdcs.get64(TDCS.TSC_MULTIPLIER));
  tdvps.set64(TD_VMCS.CR0_MASK, CR.CR0_MASK);
  tdvps.set64(TD_VMCS.CR0_SHADOW, CR.CR0_SHADOW);
  const fixed1 = context.readMsr(MSR.IA32_VMX_CR4_FIXED1);
  tdvps.set64(
    TD_VMCS.CR4_MASK,
    cr4Mask(fixed1, {
      pku: (xfam & XFAM.PKRU) !== 0,
      cet: (xfam & XFAM.CET) !== 0,
      uintr: (xfam & XFAM.UINTR) !== 0,
      pks: (attributes & ATTRIBUTES.PKS) !== 0n,
    }),
  );
  tdvps.set64(TD_VMCS.CR4_SHADOW, CR.CR4_SHADOW);
  tdvps.set(TDVPS.LFSR, Number(context.random64() & 0xffff_ffffn) || 1);
}
