import { MISC_ENABLE, MSR } from "../../arch/msr.js";
import { ATTRIBUTES, CONFIG_FLAGS, EPTP_CONTROLS, OP_STATE, OPERAND, TD_CTLS, TD_PARAMS } from "../../arch/tdx-abi.js";
import { TD_CRYSTAL_HZ, XFAM, XFAM_FIXED1 } from "../../arch/tdx-cpuid.js";
import { TD_ARCH_CAPABILITIES } from "../../arch/tdx-msr.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { openTd, requireTd, sharedMemory } from "../checks.js";
import { CPUID_CONFIGS, computeCpuid } from "../cpuid-values.js";
import { fail } from "../failure.js";
import { beginMrtd } from "../measurement.js";
import {
  ARCH_CAPABILITIES_CONFIG_MASK,
  ATTRIBUTES_FIXED1,
  attributesFixed0,
  CONFIG_FLAGS_FIXED0,
  xfamFixed0,
} from "../metadata/sys-fields.js";
import { writeMsrBitmap } from "../msr-bitmap.js";
import { ALLOWED_OP_STATES } from "../op-states.js";
import { MAX_VCPUS_PER_TD, TDCS } from "../structures/tdcs.js";

const TSC_FREQUENCY_MIN = 4;
const TSC_FREQUENCY_MAX = 400;
/** IA32_VMX_EPT_VPID_CAP bit 7: page walks of five levels. */
const EPT_CAP_5_LEVELS = 1n << 7n;
/** The multiplier of the TSC counts in units of 2^-48. */
const TSC_MULTIPLIER_SHIFT = 48n;

/** TDH.MNG.INIT: takes over TD_PARAMS. RCX names the leaf of a CPUID value that is refused. */
export function mngInit(call: Call): bigint {
  call.out.clear(GPR.RCX);
  openTd(call, GPR.RCX);
  requireTd(call, ALLOWED_OP_STATES.MNG_INIT);
  const { context, state } = call;
  if ((context.readMsr(MSR.IA32_MISC_ENABLE) & MISC_ENABLE.LIMIT_CPUID_MAXVAL) !== 0n) {
    fail(TDX_STATUS.LIMIT_CPUID_MAXVAL_SET);
  }
  if (context.readMsr(MSR.IA32_TSC_ADJUST) !== BigInt(state.tscAdjust)) {
    fail(TDX_STATUS.INCONSISTENT_MSR, BigInt(MSR.IA32_TSC_ADJUST));
  }
  const operand = sharedMemory(call, GPR.RDX, TD_PARAMS.SIZE, TD_PARAMS.SIZE);
  const bytes = call.memory.read(operand.hpa, TD_PARAMS.SIZE, operand.keyId);
  initialise(call, readParams(call, new DataView(bytes.buffer, bytes.byteOffset, bytes.length)), bytes);
  return TDX_STATUS.SUCCESS;
}

interface Params {
  readonly attributes: bigint;
  readonly xfam: number;
  readonly maxVcpus: number;
  readonly eptpControls: number;
  readonly configFlags: bigint;
  readonly tscFrequency: number;
  readonly archCapabilities: bigint;
  readonly cpuid: readonly number[][];
}

/** Checks TD_PARAMS field by field (tdx-module facts 7.1); the operand id of a failure names the field. */
function readParams(call: Call, params: DataView): Params {
  const { state } = call;
  const expect = (ok: boolean, operand: bigint): void => {
    if (!ok) fail(TDX_STATUS.OPERAND_INVALID, operand);
  };
  const attributes = params.getBigUint64(TD_PARAMS.ATTRIBUTES, true);
  const allowed = attributesFixed0(state);
  expect((attributes & ~allowed) === 0n && (ATTRIBUTES_FIXED1 & ~attributes) === 0n, OPERAND.ATTRIBUTES);

  const xfam64 = params.getBigUint64(TD_PARAMS.XFAM, true);
  const xfam = Number(xfam64 & 0xffff_ffffn);
  expect(xfam64 === BigInt(xfam) && isLegalXfam(xfam, xfamFixed0(state)), OPERAND.XFAM);

  const maxVcpus = params.getUint16(TD_PARAMS.MAX_VCPUS, true);
  expect(maxVcpus > 0 && maxVcpus <= MAX_VCPUS_PER_TD, OPERAND.MAX_VCPUS);
  expect(params.getUint8(TD_PARAMS.NUM_L2_VMS) === 0, OPERAND.NUM_L2_VMS);
  const msrControls = params.getUint8(TD_PARAMS.MSR_CONFIG_CTLS);
  expect(msrControls <= 1, OPERAND.IA32_ARCH_CAP_CONFIG);
  expect(areReservedZero(params), OPERAND.RDX);

  const configFlags = params.getBigUint64(TD_PARAMS.CONFIG_FLAGS, true);
  expect((configFlags & ~CONFIG_FLAGS_FIXED0) === 0n, OPERAND.EXEC_CONTROLS);
  const eptpControls = params.getBigUint64(TD_PARAMS.EPTP_CONTROLS, true);
  const fiveLevels = eptpControls === BigInt(EPTP_CONTROLS.LEVELS_5);
  expect(fiveLevels || eptpControls === BigInt(EPTP_CONTROLS.LEVELS_4), OPERAND.EPTP_CONTROLS);
  const fiveLevelCapable = (call.context.readMsr(MSR.IA32_VMX_EPT_VPID_CAP) & EPT_CAP_5_LEVELS) !== 0n;
  expect(!fiveLevels || fiveLevelCapable, OPERAND.EPTP_CONTROLS);
  expect((configFlags & CONFIG_FLAGS.GPAW) === 0n || fiveLevels, OPERAND.EXEC_CONTROLS);

  const tscFrequency = params.getUint16(TD_PARAMS.TSC_FREQUENCY, true);
  expect(tscFrequency >= TSC_FREQUENCY_MIN && tscFrequency <= TSC_FREQUENCY_MAX, OPERAND.TSC_FREQUENCY);
  const archConfig = params.getBigUint64(TD_PARAMS.IA32_ARCH_CAPABILITIES_CONFIG, true);
  const legalArchConfig = msrControls === 1 ? ARCH_CAPABILITIES_CONFIG_MASK : 0n;
  expect((archConfig & ~legalArchConfig) === 0n, OPERAND.IA32_ARCH_CAP_CONFIG);

  const config = new Uint32Array(CPUID_CONFIGS.length * 4);
  for (let i = 0; i < config.length; i++) config[i] = params.getUint32(TD_PARAMS.CPUID_CONFIG_VALUES + i * 4, true);
  const cpuid = computeCpuid(call, config, { attributes, xfam, tscFrequency });
  return {
    attributes,
    xfam,
    maxVcpus,
    eptpControls: Number(eptpControls),
    configFlags,
    tscFrequency,
    archCapabilities: archCapabilities(
      BigInt(state.nativeArchCapabilities),
      msrControls === 1 ? archConfig : null,
      cpuid,
    ),
    cpuid,
  };
}

/** Groups of bits that must be equal, and what AVX-512 needs (tdx-module facts 7.3). */
function isLegalXfam(xfam: number, fixed0: number): boolean {
  const allOrNone = (mask: number): boolean => (xfam & mask) === 0 || (xfam & mask) === mask;
  const avx = (xfam & XFAM.AVX512) === 0 || (xfam & XFAM.AVX) !== 0;
  const within = (xfam & ~fixed0) === 0 && (XFAM_FIXED1 & ~xfam) === 0;
  return within && avx && allOrNone(XFAM.AVX512) && allOrNone(XFAM.CET) && allOrNone(XFAM.AMX);
}

function areReservedZero(params: DataView): boolean {
  const zero = (from: number, to: number): boolean => {
    for (let i = from; i < to; i++) if (params.getUint8(i) !== 0) return false;
    return true;
  };
  const cpuidEnd = TD_PARAMS.CPUID_CONFIG_VALUES + CPUID_CONFIGS.length * 16;
  const { MSR_CONFIG_CTLS, EPTP_CONTROLS: eptp, TSC_FREQUENCY, MRCONFIGID, CPUID_CONFIG_VALUES } = TD_PARAMS;
  return (
    zero(MSR_CONFIG_CTLS + 1, eptp) &&
    zero(TSC_FREQUENCY + 2, MRCONFIGID) &&
    zero(TD_PARAMS.IA32_ARCH_CAPABILITIES_CONFIG + 8, CPUID_CONFIG_VALUES) &&
    zero(cpuidEnd, TD_PARAMS.SIZE)
  );
}

/** IA32_ARCH_CAPABILITIES of the TD; `config` is null where TD_PARAMS leaves it to the module. */
function archCapabilities(native: bigint, config: bigint | null, cpuid: readonly number[][]): bigint {
  const { HIDDEN, ALLOW, FORCE, TSX_CTRL } = TD_ARCH_CAPABILITIES;
  // HLE and RTM: EBX bits 4 and 11 of leaf 7.
  const tsx = cpuid.some((value, i) => i === CPUID_CONFIGS[5]?.index && ((value[1] as number) & 0x810) !== 0);
  let value = BigInt.asUintN(64, native & ~HIDDEN);
  if (!tsx) value &= ~TSX_CTRL;
  if (config === null) return value;
  return (value & ~ALLOW & ~FORCE) | (value & ALLOW & config) | (FORCE & config);
}

function initialise(call: Call, params: Params, bytes: Uint8Array): void {
  const { td, state, context } = call;
  const { tdcs } = td;
  tdcs.set64(TDCS.ATTRIBUTES, params.attributes);
  tdcs.set(TDCS.XFAM, params.xfam);
  tdcs.set(TDCS.MAX_VCPUS, params.maxVcpus);
  tdcs.set(TDCS.EPTP_CONTROLS, params.eptpControls);
  tdcs.set64(TDCS.CONFIG_FLAGS, params.configFlags);
  tdcs.set(TDCS.GPAW, params.configFlags & CONFIG_FLAGS.GPAW ? 52 : 48);
  const veDisable = (params.attributes & ATTRIBUTES.SEPT_VE_DISABLE) !== 0n;
  tdcs.set64(TDCS.TD_CTLS, veDisable ? TD_CTLS.PENDING_VE_DISABLE : 0n);
  tdcs.set64(TDCS.IA32_ARCH_CAPABILITIES, params.archCapabilities);
  tdcs.set(TDCS.TOPOLOGY_ENUM_CONFIGURED, 1);
  tdcs.set(TDCS.HP_LOCK_TIMEOUT, state.tscHz);
  tdcs.set(TDCS.TD_EPOCH, 1);

  tdcs.set(TDCS.TSC_FREQUENCY, params.tscFrequency);
  const hz = BigInt(params.tscFrequency * TD_CRYSTAL_HZ);
  const multiplier = state.tscHz > 0 ? (hz << TSC_MULTIPLIER_SHIFT) / BigInt(Math.round(state.tscHz)) : 0n;
  tdcs.set64(TDCS.TSC_MULTIPLIER, multiplier);
  // The TD's TSC starts at 0 here.
  tdcs.set64(TDCS.TSC_OFFSET, -((context.tsc() * multiplier) >> TSC_MULTIPLIER_SHIFT));

  tdcs.setBytes(TDCS.MRCONFIGID, bytes.subarray(TD_PARAMS.MRCONFIGID, TD_PARAMS.MRCONFIGID + 48));
  tdcs.setBytes(TDCS.MROWNER, bytes.subarray(TD_PARAMS.MROWNER, TD_PARAMS.MROWNER + 48));
  tdcs.setBytes(TDCS.MROWNERCONFIG, bytes.subarray(TD_PARAMS.MROWNERCONFIG, TD_PARAMS.MROWNERCONFIG + 48));
  tdcs.set(TDCS.NUM_CPUID_VALUES, params.cpuid.length);
  for (const [i, [eax = 0, ebx = 0, ecx = 0, edx = 0]] of params.cpuid.entries()) {
    tdcs.set64(TDCS.CPUID_VALUES, BigInt(eax) | (BigInt(ebx) << 32n), i * 2);
    tdcs.set64(TDCS.CPUID_VALUES, BigInt(ecx) | (BigInt(edx) << 32n), i * 2 + 1);
  }
  beginMrtd(td);
  writeMsrBitmap(td);
  tdcs.set(TDCS.OP_STATE, OP_STATE.INITIALIZED);
}
