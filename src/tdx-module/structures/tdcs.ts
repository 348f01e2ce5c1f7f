import { CPUID_TABLE } from "../../arch/tdx-cpuid.js";
import { TD_FIELD } from "../../arch/tdx-metadata.js";
import { ACCESS, StructureLayout } from "./layout.js";

/** Most vCPUs of a TD. */
export const MAX_VCPUS_PER_TD = 576;

/** Index of each TDCX page (tdx-module facts 2.4, MNG.ADDCX): 0 and 1 hold the fields below. */
export const TDCX = { MSR_BITMAP: 2, SEPT_ROOT: 3, ZERO: 4, MIGSC: 5 } as const;

/** TDCS: what the module knows of a TD, in its TDCX pages, accessed with the TD's KeyID. */
export const TDCS_LAYOUT = new StructureLayout("TDCS", 0x2000);
const field = TDCS_LAYOUT.field.bind(TDCS_LAYOUT);

export const TDCS = {
  OP_STATE: field("OP_STATE", 4, { id: TD_FIELD.OP_STATE, access: ACCESS.HOST }),
  NUM_VCPUS: field("NUM_VCPUS", 4, { id: TD_FIELD.NUM_VCPUS, access: ACCESS.HOST_GUEST }),
  NUM_ASSOC_VCPUS: field("NUM_ASSOC_VCPUS", 4, { id: TD_FIELD.NUM_ASSOC_VCPUS, access: ACCESS.HOST }),
  MAX_VCPUS: field("MAX_VCPUS", 4, { id: TD_FIELD.MAX_VCPUS, access: ACCESS.HOST_GUEST }),
  TD_EPOCH: field("TD_EPOCH", 8, { id: TD_FIELD.TD_EPOCH, access: ACCESS.HOST }),
  REFCOUNT: field("REFCOUNT", 2, { count: 2, id: TD_FIELD.REFCOUNT, access: ACCESS.HOST }),
  NUM_L2_VMS: field("NUM_L2_VMS", 2, { id: TD_FIELD.NUM_L2_VMS, access: ACCESS.HOST_GUEST }),
  TSC_FREQUENCY: field("TSC_FREQUENCY", 2, { id: TD_FIELD.TSC_FREQUENCY, access: ACCESS.HOST_GUEST }),
  ATTRIBUTES: field("ATTRIBUTES", 8, { id: TD_FIELD.ATTRIBUTES, access: ACCESS.HOST_GUEST }),
  XFAM: field("XFAM", 8, { id: TD_FIELD.XFAM, access: ACCESS.HOST_GUEST }),
  CONFIG_FLAGS: field("CONFIG_FLAGS", 8, { id: TD_FIELD.CONFIG_FLAGS, access: ACCESS.HOST_GUEST }),
  /** Bit 0 is writable where CONFIG_FLAGS.FLEXIBLE_PENDING_VE allows it; 1 with topology configured; never 3 (REDUCE_VE). */
  TD_CTLS: field("TD_CTLS", 8, { id: TD_FIELD.TD_CTLS, access: ACCESS.guestWrite(0b11n) }),
  NOTIFY_ENABLES: field("NOTIFY_ENABLES", 8, { id: TD_FIELD.NOTIFY_ENABLES, access: ACCESS.guestWrite(1n) }),
  HP_LOCK_TIMEOUT: field("HP_LOCK_TIMEOUT", 8, { id: TD_FIELD.HP_LOCK_TIMEOUT, access: ACCESS.hostWrite() }),
  TSC_OFFSET: field("TSC_OFFSET", 8, { id: TD_FIELD.TSC_OFFSET, access: ACCESS.HOST }),
  TSC_MULTIPLIER: field("TSC_MULTIPLIER", 8, { id: TD_FIELD.TSC_MULTIPLIER, access: ACCESS.HOST }),
  EPTP_CONTROLS: field("EPTP_CONTROLS", 8),
  IA32_ARCH_CAPABILITIES: field("IA32_ARCH_CAPABILITIES", 8),
  NUM_CPUID_VALUES: field("NUM_CPUID_VALUES", 2, { id: TD_FIELD.NUM_CPUID_VALUES, access: ACCESS.HOST }),
  /** 48 or 52. */
  GPAW: field("GPAW", 1, { id: TD_FIELD.GPAW, access: ACCESS.HOST_GUEST }),
  TOPOLOGY_ENUM_CONFIGURED: field("TOPOLOGY_ENUM_CONFIGURED", 1, {
    id: TD_FIELD.TOPOLOGY_ENUM_CONFIGURED,
    access: ACCESS.HOST_GUEST,
  }),
  MRTD: field("MRTD", 8, { count: 6, id: TD_FIELD.MRTD, access: ACCESS.HOST_GUEST, at: 0x100 }),
  MRCONFIGID: field("MRCONFIGID", 8, { count: 6, id: TD_FIELD.MRCONFIGID, access: ACCESS.HOST_GUEST }),
  MROWNER: field("MROWNER", 8, { count: 6, id: TD_FIELD.MROWNER, access: ACCESS.HOST_GUEST }),
  MROWNERCONFIG: field("MROWNERCONFIG", 8, { count: 6, id: TD_FIELD.MROWNERCONFIG, access: ACCESS.HOST_GUEST }),
  /** Four registers of six words. */
  RTMR: field("RTMR", 8, { count: 24, id: TD_FIELD.RTMR, access: ACCESS.GUEST }),
  /** SHA-384 under way: eight words of state and the bytes hashed so far (a multiple of the block). */
  MRTD_STATE: field("MRTD_STATE", 8, { count: 8 }),
  MRTD_LENGTH: field("MRTD_LENGTH", 8),
  SERVTD_HASH: field("SERVTD_HASH", 8, { count: 6 }),
  /** EBX:EAX and EDX:ECX per row of the CPUID table; `metadata/td-fields.ts` has the identifiers. */
  CPUID_VALUES: field("CPUID_VALUES", 8, { count: CPUID_TABLE.length * 2, at: 0x400, access: ACCESS.HOST }),
  X2APIC_IDS: field("X2APIC_IDS", 4, {
    count: MAX_VCPUS_PER_TD,
    id: TD_FIELD.X2APIC_IDS,
    access: ACCESS.HOST_GUEST,
    at: 0x1000,
  }),
} as const;
