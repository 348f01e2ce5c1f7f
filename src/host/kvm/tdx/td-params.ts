import { ERRNO } from "../../../arch/errno.js";
import { KVM_MAX_CPUID_ENTRIES } from "../../../arch/kvm-uapi.js";
import { ATTRIBUTES, CONFIG_FLAGS, EPTP_CONTROLS, TD_PARAMS } from "../../../arch/tdx-abi.js";
import type { CpuidConfig, TdxSysInfo } from "../../tdx/sys-info.js";
import type { KvmCpuid2, KvmCpuidEntry2 } from "../cpuid.js";

/** struct kvm_tdx_init_vm. */
export interface KvmTdxInitVm {
  readonly attributes: bigint;
  readonly xfam: bigint;
  /** 48 bytes each; absent: zeros. */
  readonly mrconfigid?: Uint8Array;
  readonly mrowner?: Uint8Array;
  readonly mrownerconfig?: Uint8Array;
  readonly cpuid: KvmCpuid2;
}

/** struct kvm_tdx_capabilities. */
export interface KvmTdxCapabilities {
  supportedAttrs: bigint;
  supportedXfam: bigint;
  kernelTdvmcallinfo1R11: bigint;
  userTdvmcallinfo1R11: bigint;
  kernelTdvmcallinfo1R12: bigint;
  userTdvmcallinfo1R12: bigint;
  /** In: how many entries fit. Out: the configurable leaves; registers are masks of the configurable bits. */
  cpuid: { nent: number; entries: KvmCpuidEntry2[] };
}

/** TD attributes that KVM lets user space choose (KVM_SUPPORTED_TD_ATTRS). */
const KVM_SUPPORTED_TD_ATTRS = ATTRIBUTES.SEPT_VE_DISABLE;
/** XCR0 and XSS components that KVM virtualises: x87, SSE, AVX, AVX-512, PKRU, CET, AMX. */
const KVM_SUPPORTED_XFAM = 0x61ae7n;
/** GetTdVmCallInfo, subleaf 1, R11 bit 1: user space answers SetupEventNotifyInterrupt. */
const USER_SETUP_EVENT_NOTIFY = 1n << 1n;

const LEAF_7 = 7;
const LEAF_ADDRESS_SIZES = 0x80000008;
const GPAW_SHIFT = 16;
const GPAW_MASK = 0xff << GPAW_SHIFT;
/** CPUID (7,0): HLE and RTM in EBX, WAITPKG in ECX. KVM cannot give them to a TD. */
const TSX_EBX = (1 << 4) | (1 << 11);
const WAITPKG_ECX = 1 << 5;
const SIGNIFICANT_INDEX = 1;
const TSC_UNIT_KHZ = 25_000;

/** KVM_TDX_CAPABILITIES. */
export function fillCapabilities(info: TdxSysInfo, capabilities: KvmTdxCapabilities): number {
  if (capabilities.cpuid.nent < info.cpuidConfigs.length) return -ERRNO.E2BIG;
  const attrs = KVM_SUPPORTED_TD_ATTRS | info.attributesFixed1;
  const xfam = KVM_SUPPORTED_XFAM | info.xfamFixed1;
  if ((info.attributesFixed1 & ~KVM_SUPPORTED_TD_ATTRS) !== 0n) return -ERRNO.EIO;
  if ((info.xfamFixed1 & ~KVM_SUPPORTED_XFAM) !== 0n) return -ERRNO.EIO;
  capabilities.supportedAttrs = attrs & info.attributesFixed0;
  capabilities.supportedXfam = xfam & info.xfamFixed0;
  capabilities.kernelTdvmcallinfo1R11 = 0n;
  capabilities.userTdvmcallinfo1R11 = USER_SETUP_EVENT_NOTIFY;
  capabilities.kernelTdvmcallinfo1R12 = 0n;
  capabilities.userTdvmcallinfo1R12 = 0n;
  capabilities.cpuid.entries = info.cpuidConfigs.map(capabilityEntry);
  capabilities.cpuid.nent = info.cpuidConfigs.length;
  return 0;
}

function capabilityEntry(config: CpuidConfig): KvmCpuidEntry2 {
  let { eax, ebx, ecx } = config;
  // The width of guest addresses is KVM's to set; it lets user space choose it here.
  if (config.leaf === LEAF_ADDRESS_SIZES) eax = (eax | GPAW_MASK) >>> 0;
  if (config.leaf === LEAF_7 && (config.subleaf ?? 0) === 0) {
    ebx = (ebx & ~TSX_EBX) >>> 0;
    ecx = (ecx & ~WAITPKG_ECX) >>> 0;
  }
  return {
    function: config.leaf,
    index: config.subleaf ?? 0,
    flags: config.subleaf === null ? 0 : SIGNIFICANT_INDEX,
    eax,
    ebx,
    ecx,
    edx: config.edx,
  };
}

/** A TD's parameters as KVM hands them to the module. */
export interface TdParams {
  readonly attributes: bigint;
  readonly xfam: bigint;
  readonly gpaw: 48 | 52;
  /** TD_PARAMS, 1024 bytes. */
  readonly bytes: Uint8Array;
}

/** What VM and host add to the VMM's wishes. */
export interface TdParamsContext {
  readonly info: TdxSysInfo;
  readonly maxVcpus: number;
  readonly tscKhz: number;
}

/** Checks struct kvm_tdx_init_vm in KVM's order and builds TD_PARAMS; an error number, negated, where KVM refuses. */
export function buildTdParams(init: KvmTdxInitVm, context: TdParamsContext): TdParams | number {
  const { info } = context;
  const { entries } = init.cpuid;
  if (entries.length > KVM_MAX_CPUID_ENTRIES) return -ERRNO.E2BIG;
  if ((init.cpuid.padding ?? 0) !== 0) return -ERRNO.EINVAL;
  const attrs = (KVM_SUPPORTED_TD_ATTRS | info.attributesFixed1) & info.attributesFixed0;
  const xfam = (KVM_SUPPORTED_XFAM | info.xfamFixed1) & info.xfamFixed0;
  if ((init.attributes & ~attrs) !== 0n || (init.xfam & ~xfam) !== 0n) return -ERRNO.EINVAL;
  const sizes = entries.find((entry) => entry.function === LEAF_ADDRESS_SIZES);
  const gpaw = sizes === undefined ? 0 : (sizes.eax & GPAW_MASK) >>> GPAW_SHIFT;
  if (gpaw !== 48 && gpaw !== 52) return -ERRNO.EINVAL;
  const unsupported = entries.some(
    (entry) =>
      entry.function === LEAF_7 &&
      entry.index === 0 &&
      ((entry.ebx & TSX_EBX) !== 0 || (entry.ecx & WAITPKG_ECX) !== 0),
  );
  if (unsupported) return -ERRNO.EINVAL;

  const bytes = new Uint8Array(TD_PARAMS.SIZE);
  const view = new DataView(bytes.buffer);
  const tdAttributes = init.attributes | info.attributesFixed1;
  const tdXfam = init.xfam | info.xfamFixed1;
  view.setBigUint64(TD_PARAMS.ATTRIBUTES, tdAttributes, true);
  view.setBigUint64(TD_PARAMS.XFAM, tdXfam, true);
  view.setUint16(TD_PARAMS.MAX_VCPUS, context.maxVcpus, true);
  view.setBigUint64(
    TD_PARAMS.EPTP_CONTROLS,
    BigInt(gpaw === 52 ? EPTP_CONTROLS.LEVELS_5 : EPTP_CONTROLS.LEVELS_4),
    true,
  );
  view.setBigUint64(TD_PARAMS.CONFIG_FLAGS, CONFIG_FLAGS.NO_RBP_MOD | (gpaw === 52 ? CONFIG_FLAGS.GPAW : 0n), true);
  view.setUint16(TD_PARAMS.TSC_FREQUENCY, Math.floor(context.tscKhz / TSC_UNIT_KHZ), true);
  for (const [offset, measurement] of [
    [TD_PARAMS.MRCONFIGID, init.mrconfigid],
    [TD_PARAMS.MROWNER, init.mrowner],
    [TD_PARAMS.MROWNERCONFIG, init.mrownerconfig],
  ] as const) {
    if (measurement !== undefined) bytes.set(measurement.subarray(0, 48), offset);
  }
  const copied = copyCpuidConfig(view, info.cpuidConfigs, entries);
  if (copied !== entries.length) return -ERRNO.EINVAL;
  return { attributes: tdAttributes, xfam: tdXfam, gpaw, bytes };
}

/** Fills in CPUID_CONFIG_VALUES; the number of entries that found their leaf. */
function copyCpuidConfig(view: DataView, configs: readonly CpuidConfig[], entries: readonly KvmCpuidEntry2[]): number {
  let copied = 0;
  configs.forEach((config, i) => {
    const entry = entries.find(
      (candidate) =>
        candidate.function === config.leaf &&
        ((candidate.flags & SIGNIFICANT_INDEX) === 0 || candidate.index === (config.subleaf ?? 0)),
    );
    if (entry === undefined) return;
    copied++;
    const at = TD_PARAMS.CPUID_CONFIG_VALUES + 16 * i;
    const eax = config.leaf === LEAF_ADDRESS_SIZES ? entry.eax & ~GPAW_MASK : entry.eax;
    view.setUint32(at, eax, true);
    view.setUint32(at + 4, entry.ebx, true);
    view.setUint32(at + 8, entry.ecx, true);
    view.setUint32(at + 12, entry.edx, true);
  });
  return copied;
}
