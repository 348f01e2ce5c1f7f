import { PAGE_SIZE } from "../../arch/page.js";
import { MAX_TDMRS, PAMT_ENTRY_SIZE, TDMR_INFO, TDSYSINFO } from "../../arch/tdx-abi.js";
import { XFAM_FIXED1 } from "../../arch/tdx-cpuid.js";
import { METADATA_NULL_ID } from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { Call } from "../call.js";
import { sharedMemory } from "../checks.js";
import { CPUID_CONFIGS, configurableBits } from "../cpuid-values.js";
import { fail } from "../failure.js";
import { isNullId } from "../metadata/field-index.js";
import {
  ATTRIBUTES_FIXED1,
  attributesFixed0,
  FIRST_SYS_ID,
  findSysElement,
  nextSysId,
  sysValue,
  VERSION,
  xfamFixed0,
} from "../metadata/sys-fields.js";
import { sysFieldList } from "../metadata/sys-list.js";
import { MIN_TDCX } from "../structures/tdr.js";
import { TDVPS_PAGES } from "../structures/tdvps.js";

/** CMR_INFO array: entries of base and size. */
const CMR_ENTRIES = 32;
const CMR_ENTRY_SIZE = 16;

/** TDH.SYS.RD: one field of the system's metadata. */
export function sysRd(call: Call): bigint {
  const id = call.in.get64(GPR.RDX);
  call.out.clear(GPR.R8);
  call.out.set64(GPR.RDX, METADATA_NULL_ID);
  if (isNullId(id)) {
    call.out.set64(GPR.RDX, FIRST_SYS_ID);
    return TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT;
  }
  const element = findSysElement(id);
  call.out.set64(GPR.R8, sysValue(element, call.state, call.context));
  call.out.set64(GPR.RDX, nextSysId(element));
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.RDALL: all of it, as a list. */
export function sysRdall(call: Call): bigint {
  const page = sharedMemory(call, GPR.RDX, PAGE_SIZE, PAGE_SIZE);
  const { bytes, next } = sysFieldList(call.state, call.context, call.in.get64(GPR.R8));
  call.memory.write(page.hpa, bytes, page.keyId);
  call.out.set64(GPR.R8, next);
  return TDX_STATUS.SUCCESS;
}

/** TDH.SYS.INFO: the same for older hosts, as fixed structures. */
export function sysInfo(call: Call): bigint {
  const { state, context } = call;
  if (!state.lpInitialised[context.lp.id]) fail(TDX_STATUS.SYS_LP_INIT_NOT_DONE);
  const info = sharedMemory(call, GPR.RCX, TDSYSINFO.SIZE, TDSYSINFO.SIZE);
  if (call.in.number(GPR.RDX) < TDSYSINFO.SIZE) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.RDX));
  const cmrs = sharedMemory(call, GPR.R8, 512, CMR_ENTRIES * CMR_ENTRY_SIZE);
  if (call.in.number(GPR.R9) < CMR_ENTRIES) fail(TDX_STATUS.OPERAND_INVALID, BigInt(GPR.R9));
  call.memory.write(info.hpa, tdsysinfo(call), info.keyId);
  const list = new DataView(new ArrayBuffer(CMR_ENTRIES * CMR_ENTRY_SIZE));
  for (const [i, cmr] of context.platform.cmrs.slice(0, CMR_ENTRIES).entries()) {
    list.setBigUint64(i * CMR_ENTRY_SIZE, BigInt(cmr.base), true);
    list.setBigUint64(i * CMR_ENTRY_SIZE + 8, BigInt(cmr.size), true);
  }
  call.memory.write(cmrs.hpa, new Uint8Array(list.buffer), cmrs.keyId);
  call.out.setNumber(GPR.RDX, TDSYSINFO.SIZE);
  call.out.setNumber(GPR.R9, CMR_ENTRIES);
  return TDX_STATUS.SUCCESS;
}

function tdsysinfo({ state }: Call): Uint8Array {
  const info = new DataView(new ArrayBuffer(TDSYSINFO.SIZE));
  info.setUint32(TDSYSINFO.VENDOR_ID, VERSION.VENDOR, true);
  info.setUint32(TDSYSINFO.BUILD_DATE, VERSION.BUILD_DATE, true);
  info.setUint16(TDSYSINFO.BUILD_NUM, VERSION.BUILD_NUM, true);
  info.setUint16(TDSYSINFO.MINOR_VERSION, VERSION.MINOR, true);
  info.setUint16(TDSYSINFO.MAJOR_VERSION, VERSION.MAJOR, true);
  info.setUint8(TDSYSINFO.SYS_RD, 1);
  info.setUint16(TDSYSINFO.MAX_TDMRS, MAX_TDMRS, true);
  info.setUint16(TDSYSINFO.MAX_RESERVED_PER_TDMR, TDMR_INFO.MAX_RESERVED, true);
  info.setUint16(TDSYSINFO.PAMT_ENTRY_SIZE, PAMT_ENTRY_SIZE, true);
  info.setUint16(TDSYSINFO.TDCS_BASE_SIZE, MIN_TDCX * PAGE_SIZE, true);
  info.setUint16(TDSYSINFO.TDVPS_BASE_SIZE, TDVPS_PAGES * PAGE_SIZE, true);
  info.setBigUint64(TDSYSINFO.ATTRIBUTES_FIXED0, attributesFixed0(state), true);
  info.setBigUint64(TDSYSINFO.ATTRIBUTES_FIXED1, ATTRIBUTES_FIXED1, true);
  info.setBigUint64(TDSYSINFO.XFAM_FIXED0, BigInt(xfamFixed0(state)), true);
  info.setBigUint64(TDSYSINFO.XFAM_FIXED1, BigInt(XFAM_FIXED1), true);
  info.setUint32(TDSYSINFO.NUM_CPUID_CONFIG, CPUID_CONFIGS.length, true);
  for (const [i, config] of CPUID_CONFIGS.entries()) {
    const at = TDSYSINFO.CPUID_CONFIGS + i * TDSYSINFO.CPUID_CONFIG_SIZE;
    info.setUint32(at, config.row.leaf, true);
    info.setUint32(at + 4, config.row.subleaf ?? 0xffff_ffff, true);
    for (let r = 0; r < 4; r++) info.setUint32(at + 8 + r * 4, configurableBits(config, state.nativeCpuid, r), true);
  }
  return new Uint8Array(info.buffer);
}
