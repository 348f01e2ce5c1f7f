/**
 * Binary interface of the TDX module: leaf numbers, operand ids, states and memory layouts (TDX module 1.5 ABI
 * specification), and the guest-host communication interface (GHCI) on top of TDG.VP.VMCALL.
 */

/** SEAMCALL leaves (RAX[15:0]). */
export const TDH = {
  VP_ENTER: 0,
  MNG_ADDCX: 1,
  MEM_PAGE_ADD: 2,
  MEM_SEPT_ADD: 3,
  VP_ADDCX: 4,
  MEM_PAGE_RELOCATE: 5,
  MEM_PAGE_AUG: 6,
  MEM_RANGE_BLOCK: 7,
  MNG_KEY_CONFIG: 8,
  MNG_CREATE: 9,
  VP_CREATE: 10,
  MNG_RD: 11,
  MEM_RD: 12,
  MNG_WR: 13,
  MEM_WR: 14,
  MEM_PAGE_DEMOTE: 15,
  MR_EXTEND: 16,
  MR_FINALIZE: 17,
  VP_FLUSH: 18,
  MNG_VPFLUSHDONE: 19,
  MNG_KEY_FREEID: 20,
  MNG_INIT: 21,
  VP_INIT: 22,
  MEM_PAGE_PROMOTE: 23,
  PHYMEM_PAGE_RDMD: 24,
  MEM_SEPT_RD: 25,
  VP_RD: 26,
  MNG_KEY_RECLAIMID: 27,
  PHYMEM_PAGE_RECLAIM: 28,
  MEM_PAGE_REMOVE: 29,
  MEM_SEPT_REMOVE: 30,
  SYS_KEY_CONFIG: 31,
  SYS_INFO: 32,
  SYS_INIT: 33,
  SYS_RD: 34,
  SYS_LP_INIT: 35,
  SYS_TDMR_INIT: 36,
  SYS_RDALL: 37,
  MEM_TRACK: 38,
  MEM_RANGE_UNBLOCK: 39,
  PHYMEM_CACHE_WB: 40,
  PHYMEM_PAGE_WBINVD: 41,
  VP_WR: 43,
  SYS_LP_SHUTDOWN: 44,
  SYS_CONFIG: 45,
  SERVTD_BIND: 48,
  SERVTD_PREBIND: 49,
  SYS_SHUTDOWN: 52,
  SYS_UPDATE: 53,
  PHYMEM_PAMT_ADD: 58,
  PHYMEM_PAMT_REMOVE: 59,
  EXPORT_ABORT: 64,
  EXPORT_BLOCKW: 65,
  EXPORT_RESTORE: 66,
  EXPORT_MEM: 68,
  EXPORT_PAUSE: 70,
  EXPORT_TRACK: 71,
  EXPORT_STATE_IMMUTABLE: 72,
  EXPORT_STATE_TD: 73,
  EXPORT_STATE_VP: 74,
  EXPORT_UNBLOCKW: 75,
  IMPORT_ABORT: 80,
  IMPORT_END: 81,
  IMPORT_COMMIT: 82,
  IMPORT_MEM: 83,
  IMPORT_TRACK: 84,
  IMPORT_STATE_IMMUTABLE: 85,
  IMPORT_STATE_TD: 86,
  IMPORT_STATE_VP: 87,
  MIG_STREAM_CREATE: 96,
  SERVTD_REBIND: 97,
} as const;

/** TDCALL leaves (RAX[15:0]). */
export const TDG = {
  VP_VMCALL: 0,
  VP_INFO: 1,
  MR_RTMR_EXTEND: 2,
  VP_VEINFO_GET: 3,
  MR_REPORT: 4,
  VP_CPUIDVE_SET: 5,
  MEM_PAGE_ACCEPT: 6,
  VM_RD: 7,
  VM_WR: 8,
  VP_RD: 9,
  VP_WR: 10,
  SYS_RD: 11,
  SYS_RDALL: 12,
  SERVTD_RD: 18,
  SERVTD_WR: 20,
  MR_VERIFYREPORT: 22,
  MEM_PAGE_ATTR_RD: 23,
  MEM_PAGE_ATTR_WR: 24,
  VP_ENTER: 25,
  VP_INVEPT: 26,
  VP_INVVPID: 27,
  SERVTD_REBIND_APPROVE: 33,
} as const;

export type TdhName = keyof typeof TDH;

const TDH_NAMES = new Map(Object.entries(TDH).map(([name, leaf]) => [leaf as number, name as TdhName]));

/** Name of a SEAMCALL leaf as the specification writes it (TDH.MEM.PAGE.AUG), null if it has none. */
export const tdhName = (leaf: number): string | null => {
  const name = TDH_NAMES.get(leaf);
  return name ? `TDH.${name.replaceAll("_", ".")}` : null;
};
/** RAX of SEAMCALL and TDCALL: leaf 15:0, version 23:16. */
export const LEAF_VERSION_SHIFT = 16;

/** Operand ids in bits 31:0 of a status (bigint, to be or-ed to a `TDX_STATUS`). */
export const OPERAND = {
  RAX: 0n,
  RCX: 1n,
  RDX: 2n,
  RBX: 3n,
  RSP: 4n,
  RBP: 5n,
  RSI: 6n,
  RDI: 7n,
  R8: 8n,
  R9: 9n,
  R10: 10n,
  R11: 11n,
  R12: 12n,
  R13: 13n,
  R14: 14n,
  R15: 15n,
  ATTRIBUTES: 64n,
  XFAM: 65n,
  EXEC_CONTROLS: 66n,
  EPTP_CONTROLS: 67n,
  MAX_VCPUS: 68n,
  CPUID_CONFIG: 69n,
  TSC_FREQUENCY: 70n,
  NUM_L2_VMS: 71n,
  IA32_ARCH_CAP_CONFIG: 72n,
  PAGE: 95n,
  TDMR_INFO_PA: 96n,
  GPA_LIST_ENTRY: 97n,
  MIG_BUFF: 98n,
  NEW_PAGE: 99n,
  TDR: 128n,
  TDCX: 129n,
  TDVPR: 130n,
  REG_PAGE: 132n,
  TDCS: 144n,
  TDVPS: 145n,
  SEPT_TREE: 146n,
  SEPT_ENTRY: 147n,
  RTMR: 168n,
  TD_EPOCH: 169n,
  L2_VAPIC_GPA: 170n,
  MIGSC: 171n,
  OP_STATE: 172n,
  MIG: 173n,
  SERVTD_BINDINGS: 174n,
  METADATA_FIELD: 176n,
  SYS: 184n,
  TDMR: 185n,
  KOT: 186n,
  KET: 187n,
  WBCACHE: 188n,
} as const;

/** Level of a Secure EPT entry: the size that a leaf there maps. */
export const SEPT_LEVEL = { PTE: 0, PDE: 1, PDPTE: 2, PML4E: 3, PML5E: 4 } as const;

/** Page types of the PAMT. */
export const PAGE_TYPE = { NDA: 0, RSVD: 1, REG: 3, TDR: 4, TDCX: 5, TDVPR: 6, EPT: 8 } as const;
/** Page sizes of the PAMT. */
export const PAMT_PAGE_SIZE = { P4K: 0, P2M: 1, P1G: 2 } as const;

/** State of the module. */
export const SYS_STATE = { INIT_PENDING: 0, INIT_DONE: 1, CONFIG_DONE: 2, READY: 3, SHUTDOWN: 4 } as const;
/** TDR.LIFECYCLE_STATE. */
export const LIFECYCLE = { HKID_ASSIGNED: 0, KEYS_CONFIGURED: 1, BLOCKED: 2, TEARDOWN: 3 } as const;
/** State of a HKID in the key ownership table. */
export const KOT = { FREE: 0, ASSIGNED: 1, FLUSHED: 2, RESERVED: 3 } as const;
/** TDCS.OP_STATE. */
export const OP_STATE = {
  UNINITIALIZED: 0,
  INITIALIZED: 1,
  RUNNABLE: 2,
  LIVE_EXPORT: 3,
  PAUSED_EXPORT: 4,
  POST_EXPORT: 5,
  MEMORY_IMPORT: 6,
  STATE_IMPORT: 7,
  POST_IMPORT: 8,
  LIVE_IMPORT: 9,
  FAILED_IMPORT: 10,
} as const;
/** TDVPS.STATE. */
export const VCPU_STATE = { UNINITIALIZED: 0, READY: 2, ACTIVE: 4, DISABLED: 8, IMPORT: 0x10 } as const;
/** TDVPS.LAST_TD_EXIT. */
export const LAST_EXIT = { ASYNC_FAULT: 0, ASYNC_TRAP: 1, TDVMCALL: 2 } as const;

/** Extended exit qualification, bits 3:0 (RDX of TDH.VP.ENTER). */
export const EXTENDED_QUALIFICATION = {
  NONE: 0,
  ACCEPT: 1,
  GPA_DETAILS: 2,
  MSR_LOAD_FAILURE: 3,
  XSTATE_LOAD_FAILURE: 4,
  ATTR_WR: 5,
  PENDING_EPT_VIOLATION: 6,
} as const;

/** RCX of TDH.VP.ENTER beside the TDVPR address. */
export const VP_ENTER = { HOST_RECOVERABILITY_HINT: 1n << 52n, RESUME_L1: 1n << 53n } as const;

/** TD attributes. */
export const ATTRIBUTES = {
  DEBUG: 1n << 0n,
  SEPT_VE_DISABLE: 1n << 28n,
  MIGRATABLE: 1n << 29n,
  PKS: 1n << 30n,
  KL: 1n << 31n,
  PERFMON: 1n << 63n,
} as const;
/** TD_PARAMS.CONFIG_FLAGS. */
export const CONFIG_FLAGS = { GPAW: 1n << 0n, FLEXIBLE_PENDING_VE: 1n << 1n, NO_RBP_MOD: 1n << 2n } as const;
/** TDCS.TD_CTLS, written by the guest. */
export const TD_CTLS = {
  PENDING_VE_DISABLE: 1n << 0n,
  ENUM_TOPOLOGY: 1n << 1n,
  VIRT_CPUID2: 1n << 2n,
  REDUCE_VE: 1n << 3n,
  LOCK: 1n << 63n,
} as const;

/** TD_PARAMS (TDH.MNG.INIT), 1024 bytes, 1024-byte aligned: offsets. */
export const TD_PARAMS = {
  SIZE: 1024,
  ATTRIBUTES: 0,
  XFAM: 8,
  MAX_VCPUS: 16,
  NUM_L2_VMS: 18,
  MSR_CONFIG_CTLS: 19,
  EPTP_CONTROLS: 24,
  CONFIG_FLAGS: 32,
  TSC_FREQUENCY: 40,
  MRCONFIGID: 80,
  MROWNER: 128,
  MROWNERCONFIG: 176,
  IA32_ARCH_CAPABILITIES_CONFIG: 224,
  CPUID_CONFIG_VALUES: 256,
} as const;

/** TD_PARAMS.EPTP_CONTROLS: memory type WB with a 4- or 5-level walk. */
export const EPTP_CONTROLS = { LEVELS_4: 0x1e, LEVELS_5: 0x26 } as const;

/** TDMR_INFO (TDH.SYS.CONFIG), 512-byte aligned: offsets of u64 fields; 16 reserved areas {offset, size}. */
export const TDMR_INFO = {
  BASE: 0,
  SIZE: 8,
  PAMT_1G_BASE: 16,
  PAMT_1G_SIZE: 24,
  PAMT_2M_BASE: 32,
  PAMT_2M_SIZE: 40,
  PAMT_4K_BASE: 48,
  PAMT_4K_SIZE: 56,
  RESERVED: 64,
  MAX_RESERVED: 16,
  LENGTH: 320,
} as const;
export const MAX_TDMRS = 64;
export const PAMT_ENTRY_SIZE = 16;

/** TDSYSINFO_STRUCT (TDH.SYS.INFO), 1024 bytes: offsets. */
export const TDSYSINFO = {
  SIZE: 1024,
  ATTRIBUTES: 0,
  VENDOR_ID: 4,
  BUILD_DATE: 8,
  BUILD_NUM: 12,
  MINOR_VERSION: 14,
  MAJOR_VERSION: 16,
  SYS_RD: 18,
  MAX_TDMRS: 32,
  MAX_RESERVED_PER_TDMR: 34,
  PAMT_ENTRY_SIZE: 36,
  TDCS_BASE_SIZE: 48,
  TDVPS_BASE_SIZE: 52,
  TDVPS_XFAM_DEPENDENT_SIZE: 54,
  ATTRIBUTES_FIXED0: 64,
  ATTRIBUTES_FIXED1: 72,
  XFAM_FIXED0: 80,
  XFAM_FIXED1: 88,
  NUM_CPUID_CONFIG: 128,
  CPUID_CONFIGS: 132,
  CPUID_CONFIG_SIZE: 24,
} as const;

/** TDX_FEATURES0 bits. */
export const TDX_FEATURES0 = {
  TD_MIGRATION: 1n << 0n,
  TD_PRESERVING: 1n << 1n,
  SERVICE_TD: 1n << 2n,
  TDG_VP_RDWR: 1n << 3n,
  RELAXED_MEM_MNG: 1n << 4n,
  CPUID_GUEST_CONTROL: 1n << 5n,
  TDX_IO: 1n << 6n,
  TD_PARTITIONING: 1n << 7n,
  LOCAL_ATTESTATION: 1n << 8n,
  TD_ENTRY_ENHANCEMENTS: 1n << 9n,
  HOST_PRIORITY_LOCKS: 1n << 10n,
  CONFIG_IA32_ARCH_CAPABILITIES: 1n << 11n,
  PENDING_EPT_VIOLATION_V2: 1n << 16n,
  FMS_CONFIG: 1n << 17n,
  NO_RBP_MOD: 1n << 18n,
  L2_TLB_INVD_OPT: 1n << 19n,
  TOPOLOGY_ENUM: 1n << 20n,
} as const;

/** TDREPORT_STRUCT, 1024 bytes: offsets. */
export const TDREPORT = {
  SIZE: 1024,
  TYPE: 0,
  SUBTYPE: 1,
  VERSION: 2,
  CPUSVN: 16,
  TEE_TCB_INFO_HASH: 32,
  TEE_INFO_HASH: 80,
  REPORTDATA: 128,
  MAC: 224,
  TEE_TCB_INFO: 256,
  TEE_TCB_INFO_SIZE: 239,
  TDINFO: 512,
  TDINFO_SIZE: 512,
  TYPE_TDX: 0x81,
} as const;

/** TDVMCALL: standard functions (R11 with R10 = 0); the numbers below 0x10000 are VMX exit reasons. */
export const TDVMCALL = {
  CPUID: 10,
  HLT: 12,
  IO: 30,
  RDMSR: 31,
  WRMSR: 32,
  MMIO: 48,
  GET_TD_VM_CALL_INFO: 0x10000,
  MAP_GPA: 0x10001,
  GET_QUOTE: 0x10002,
  REPORT_FATAL_ERROR: 0x10003,
  SETUP_EVENT_NOTIFY_INTERRUPT: 0x10004,
} as const;
/** TDVMCALL: result in R10. */
export const TDVMCALL_STATUS = {
  SUCCESS: 0n,
  RETRY: 1n,
  INVALID_OPERAND: 0x8000_0000_0000_0000n,
  ALIGN_ERROR: 0x8000_0000_0000_0002n,
  SUBFUNCTION_UNSUPPORTED: 0x8000_0000_0000_0003n,
} as const;
/** Registers that a Linux guest exposes to the host: RDX RBX RSI RDI R8..R15. */
export const TDVMCALL_LINUX_MASK = 0xffccn;
