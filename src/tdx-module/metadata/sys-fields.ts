import { PAGE_SIZE } from "../../arch/page.js";
import { ATTRIBUTES, CONFIG_FLAGS, MAX_TDMRS, PAMT_ENTRY_SIZE, TDMR_INFO, TDX_FEATURES0 } from "../../arch/tdx-abi.js";
import { CPUID_BIT, XFAM_FIXED0, XFAM_FIXED1 } from "../../arch/tdx-cpuid.js";
import { METADATA_MUST_BE_ZERO, METADATA_NULL_ID, metadataKey, SYS_FIELD } from "../../arch/tdx-metadata.js";
import { TD_ARCH_CAPABILITIES } from "../../arch/tdx-msr.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import type { SeamContext } from "../../platform/seam.js";
import { CPUID_CONFIGS, configurableBits, cpuidIndex } from "../cpuid-values.js";
import { fail } from "../failure.js";
import type { ModuleState } from "../state.js";
import { MAX_VCPUS_PER_TD } from "../structures/tdcs.js";
import { MIN_TDCX } from "../structures/tdr.js";
import { TDVPS_PAGES } from "../structures/tdvps.js";

/** Version of the module that is modelled: 1.5.01, plus the late 1.5 items that upstream hosts ask for. */
export const VERSION = {
  VENDOR: 0x8086,
  MAJOR: 1,
  MINOR: 5,
  UPDATE: 1,
  INTERNAL: 0,
  BUILD_DATE: 0x20240101,
  BUILD_NUM: 0,
} as const;

/** What this module does; migration, service TDs and partitioning are absent. */
export const FEATURES0 =
  TDX_FEATURES0.TDG_VP_RDWR |
  TDX_FEATURES0.RELAXED_MEM_MNG |
  TDX_FEATURES0.CPUID_GUEST_CONTROL |
  TDX_FEATURES0.LOCAL_ATTESTATION |
  TDX_FEATURES0.TD_ENTRY_ENHANCEMENTS |
  TDX_FEATURES0.HOST_PRIORITY_LOCKS |
  TDX_FEATURES0.CONFIG_IA32_ARCH_CAPABILITIES |
  TDX_FEATURES0.PENDING_EPT_VIOLATION_V2 |
  TDX_FEATURES0.FMS_CONFIG |
  TDX_FEATURES0.NO_RBP_MOD |
  TDX_FEATURES0.TOPOLOGY_ENUM;

/** Attributes that a TD may have on this processor. */
export function attributesFixed0(state: ModuleState): bigint {
  const native = (leaf: number, subleaf: number | null, register: number): number =>
    state.nativeCpuid[cpuidIndex(leaf, subleaf)]?.[register] ?? 0;
  let allowed = ATTRIBUTES.DEBUG | ATTRIBUTES.SEPT_VE_DISABLE;
  if (native(7, 0, 2) & CPUID_BIT.L7_ECX_PKS) allowed |= ATTRIBUTES.PKS;
  if (native(0xa, null, 0) !== 0) allowed |= ATTRIBUTES.PERFMON;
  return allowed;
}
export const ATTRIBUTES_FIXED1 = 0n;
export const CONFIG_FLAGS_FIXED0 = CONFIG_FLAGS.GPAW | CONFIG_FLAGS.FLEXIBLE_PENDING_VE | CONFIG_FLAGS.NO_RBP_MOD;
export const xfamFixed0 = (state: ModuleState): number => (XFAM_FIXED0 & state.nativeXfam) >>> 0;
/** Bits of IA32_ARCH_CAPABILITIES that TD_PARAMS may name. */
export const ARCH_CAPABILITIES_CONFIG_MASK = TD_ARCH_CAPABILITIES.ALLOW | TD_ARCH_CAPABILITIES.FORCE;

type Value = (state: ModuleState, context: SeamContext, index: number) => number | bigint;

interface SysField {
  readonly id: bigint;
  readonly count: number;
  readonly value: Value;
}
const field = (id: bigint, value: Value, count = 1): SysField => ({ id, count, value });
const constant = (id: bigint, value: number | bigint): SysField => field(id, () => value);
const MAX_CMRS = 32;

/** Fields of TDH.SYS.RD in the order in which the module lists them. */
export const SYS_FIELDS: readonly SysField[] = [
  constant(SYS_FIELD.VENDOR_ID, VERSION.VENDOR),
  constant(SYS_FIELD.MINOR_VERSION, VERSION.MINOR),
  constant(SYS_FIELD.MAJOR_VERSION, VERSION.MAJOR),
  constant(SYS_FIELD.UPDATE_VERSION, VERSION.UPDATE),
  constant(SYS_FIELD.INTERNAL_VERSION, VERSION.INTERNAL),
  constant(SYS_FIELD.BUILD_DATE, VERSION.BUILD_DATE),
  constant(SYS_FIELD.BUILD_NUM, VERSION.BUILD_NUM),
  constant(SYS_FIELD.TDX_FEATURES0, FEATURES0),
  field(SYS_FIELD.NUM_CMRS, (_state, context) => context.platform.cmrs.length),
  field(SYS_FIELD.CMR_BASE, (_state, context, i) => context.platform.cmrs[i]?.base ?? 0, MAX_CMRS),
  field(SYS_FIELD.CMR_SIZE, (_state, context, i) => context.platform.cmrs[i]?.size ?? 0, MAX_CMRS),
  constant(SYS_FIELD.MAX_TDMRS, MAX_TDMRS),
  constant(SYS_FIELD.MAX_RESERVED_PER_TDMR, TDMR_INFO.MAX_RESERVED),
  constant(SYS_FIELD.PAMT_4K_ENTRY_SIZE, PAMT_ENTRY_SIZE),
  constant(SYS_FIELD.PAMT_2M_ENTRY_SIZE, PAMT_ENTRY_SIZE),
  constant(SYS_FIELD.PAMT_1G_ENTRY_SIZE, PAMT_ENTRY_SIZE),
  constant(SYS_FIELD.TDR_BASE_SIZE, PAGE_SIZE),
  constant(SYS_FIELD.TDCS_BASE_SIZE, MIN_TDCX * PAGE_SIZE),
  constant(SYS_FIELD.TDVPS_BASE_SIZE, TDVPS_PAGES * PAGE_SIZE),
  field(SYS_FIELD.ATTRIBUTES_FIXED0, attributesFixed0),
  constant(SYS_FIELD.ATTRIBUTES_FIXED1, ATTRIBUTES_FIXED1),
  field(SYS_FIELD.XFAM_FIXED0, xfamFixed0),
  constant(SYS_FIELD.XFAM_FIXED1, XFAM_FIXED1),
  constant(SYS_FIELD.NUM_CPUID_CONFIG, CPUID_CONFIGS.length),
  constant(SYS_FIELD.CONFIG_FLAGS_FIXED0, CONFIG_FLAGS_FIXED0),
  constant(SYS_FIELD.CONFIG_FLAGS_FIXED1, 0n),
  constant(SYS_FIELD.MAX_VCPUS_PER_TD, MAX_VCPUS_PER_TD),
  field(SYS_FIELD.CPUID_CONFIG_LEAVES, (_state, _context, i) => cpuidConfigLeaf(i), CPUID_CONFIGS.length),
  field(SYS_FIELD.CPUID_CONFIG_VALUES, (state, _context, i) => cpuidConfigValue(state, i), CPUID_CONFIGS.length * 2),
  constant(SYS_FIELD.IA32_ARCH_CAPABILITIES_CONFIG_MASK, ARCH_CAPABILITIES_CONFIG_MASK),
];

function cpuidConfigLeaf(index: number): bigint {
  const row = CPUID_CONFIGS[index]?.row;
  return BigInt(row?.leaf ?? 0) | (BigInt(row?.subleaf ?? 0xffff_ffff) << 32n);
}

/** EAX and EBX, or ECX and EDX, of the bits that the host may set. */
function cpuidConfigValue(state: ModuleState, index: number): bigint {
  const config = CPUID_CONFIGS[index >> 1];
  if (!config) return 0n;
  const first = (index & 1) * 2;
  const low = configurableBits(config, state.nativeCpuid, first);
  return BigInt(low) | (BigInt(configurableBits(config, state.nativeCpuid, first + 1)) << 32n);
}

interface SysElement {
  readonly field: SysField;
  readonly index: number;
  readonly position: number;
}
const ELEMENTS = SYS_FIELDS.flatMap((sysField) =>
  Array.from({ length: sysField.count }, (_, index) => ({ field: sysField, index })),
).map((element, position): SysElement => ({ ...element, position }));
const BY_KEY = new Map(ELEMENTS.map((element) => [metadataKey(element.field.id + BigInt(element.index)), element]));

/** Finds an element; ends the leaf if there is none. */
export function findSysElement(id: bigint): SysElement {
  const element = (id & METADATA_MUST_BE_ZERO) === 0n ? BY_KEY.get(metadataKey(id)) : undefined;
  return element ?? fail(TDX_STATUS.METADATA_FIELD_ID_INCORRECT);
}

export const sysValue = (element: SysElement, state: ModuleState, context: SeamContext): bigint =>
  BigInt(element.field.value(state, context, element.index));

/** Identifier of the element after this one, all ones after the last. */
export function nextSysId(element: SysElement): bigint {
  const next = ELEMENTS[element.position + 1];
  return next ? next.field.id + BigInt(next.index) : METADATA_NULL_ID;
}
export const FIRST_SYS_ID = (ELEMENTS[0] as SysElement).field.id;
