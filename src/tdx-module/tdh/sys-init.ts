import { MISC_ENABLE, MSR, SMRR, TME_ACTIVATE } from "../../arch/msr.js";
import { SYS_STATE } from "../../arch/tdx-abi.js";
import { CPUID_REQUIRED, CPUID_TABLE } from "../../arch/tdx-cpuid.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { fail } from "../failure.js";
import { sizeTables } from "../state.js";

/** Most KeyIDs that the module's tables hold. */
const MAX_KEYIDS = 2048;
const CPUID_MAX_BASIC_REQUIRED = 0x1f;

/** TDH.SYS.INIT: checks the platform, takes over its constants. */
export function sysInit(call: Call): bigint {
  const { state, context } = call;
  if (call.in.get64(GPR.RCX) !== 0n) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RCX));
  if (state.sysState !== SYS_STATE.INIT_PENDING) fail(TDX_STATUS.SYS_INIT_NOT_PENDING);
  for (const register of [GPR.RCX, GPR.RDX, GPR.R8, GPR.R9, GPR.R10]) call.out.clear(register);
  checkMsrs(call);
  checkCpuid(call);
  const { keyIdCount, firstPrivateKeyId, packages } = context.platform;
  if (keyIdCount > MAX_KEYIDS || firstPrivateKeyId >= keyIdCount) {
    fail(TDX_STATUS.NUM_ACTIVATED_HKIDS_NOT_SUPPORTED);
  }
  sizeTables(state, keyIdCount, firstPrivateKeyId, packages);
  state.nativeCpuid = CPUID_TABLE.map(({ leaf, subleaf }) =>
    [...context.cpuid(leaf, subleaf ?? 0)].map((value) => value >>> 0),
  );
  state.nativeXfam = (context.cpuid(0xd, 0)[0] | context.cpuid(0xd, 1)[2]) >>> 0;
  const [denominator, numerator, crystalHz] = context.cpuid(0x15, 0);
  state.tscHz = denominator > 0 ? (crystalHz * numerator) / denominator : 0;
  state.tscAdjust = hex(context.readMsr(MSR.IA32_TSC_ADJUST));
  state.nativeArchCapabilities = hex(context.readMsr(MSR.IA32_ARCH_CAPABILITIES));
  state.sysState = SYS_STATE.INIT_DONE;
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.LP.INIT: once per LP; checks that this LP is like the one of TDH.SYS.INIT. */
export function sysLpInit(call: Call): bigint {
  const { state, context } = call;
  if (state.sysState !== SYS_STATE.INIT_DONE) fail(TDX_STATUS.SYS_LP_INIT_NOT_PENDING);
  if (state.lpInitialised[context.lp.id]) fail(TDX_STATUS.SYS_LP_INIT_DONE);
  for (const register of [GPR.RCX, GPR.RDX, GPR.R8]) call.out.clear(register);
  for (const [msr, expected] of [
    [MSR.IA32_TSC_ADJUST, state.tscAdjust],
    [MSR.IA32_ARCH_CAPABILITIES, state.nativeArchCapabilities],
  ] as const) {
    if (hex(context.readMsr(msr)) !== expected) fail(TDX_STATUS.INCONSISTENT_MSR, BigInt(msr));
  }
  checkCpuid(call);
  state.lpInitialised[context.lp.id] = true;
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.LP.SHUTDOWN: nothing to do in 1.5. */
export const sysLpShutdown = (): bigint => TDX_STATUS.SUCCESS;

const hex = (value: bigint): string => `0x${value.toString(16)}`;

function checkMsrs({ context }: Call): void {
  const tme = context.readMsr(MSR.IA32_TME_ACTIVATE);
  if ((tme & TME_ACTIVATE.LOCK) === 0n || (tme & TME_ACTIVATE.ENABLE) === 0n) {
    fail(TDX_STATUS.INCORRECT_MSR_VALUE, BigInt(MSR.IA32_TME_ACTIVATE));
  }
  const smrrMask = context.readMsr(MSR.IA32_SMRR_PHYSMASK);
  if ((smrrMask & SMRR.LOCK) === 0n) fail(TDX_STATUS.SMRR_NOT_LOCKED);
  if ((smrrMask & SMRR.VALID) !== 0n) {
    const width = BigInt(context.platform.maxPhysicalAddressBits);
    const base = Number(context.readMsr(MSR.IA32_SMRR_PHYSBASE) & 0xffff_f000n);
    const size = Number(BigInt.asUintN(32, ~(smrrMask & ((1n << width) - 1n) & 0xffff_f000n)) + 1n);
    const overlaps = context.platform.cmrs.some((cmr) => base < cmr.base + cmr.size && cmr.base < base + size);
    if (overlaps) fail(TDX_STATUS.SMRR_OVERLAPS_CMR);
  }
  if ((context.readMsr(MSR.IA32_MISC_ENABLE) & MISC_ENABLE.LIMIT_CPUID_MAXVAL) !== 0n) {
    fail(TDX_STATUS.LIMIT_CPUID_MAXVAL_SET);
  }
}

/** On a mismatch RCX names the leaf, RDX and R8 the bits that count, R9 and R10 what they should be. */
function checkCpuid(call: Call): void {
  if (call.context.cpuid(0, 0)[0] < CPUID_MAX_BASIC_REQUIRED) fail(TDX_STATUS.CPUID_LEAF_NOT_SUPPORTED);
  for (const [leaf, subleaf, mask, value] of CPUID_REQUIRED) {
    const native = call.context.cpuid(leaf, subleaf);
    if (native.every((register, i) => ((register & (mask[i] as number)) ^ (value[i] as number)) === 0)) continue;
    call.out.setHalves(GPR.RCX, leaf, subleaf);
    call.out.setHalves(GPR.RDX, mask[0], mask[1]);
    call.out.setHalves(GPR.R8, mask[2], mask[3]);
    call.out.setHalves(GPR.R9, value[0], value[1]);
    call.out.setHalves(GPR.R10, value[2], value[3]);
    fail(TDX_STATUS.INCORRECT_CPUID_VALUE);
  }
}
