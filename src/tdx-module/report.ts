import { TDREPORT } from "../arch/tdx-abi.js";
import type { Call } from "./call.js";
import { hash384, reportMac } from "./measurement.js";
import { TDCS } from "./structures/tdcs.js";

/** TDREPORT_STRUCT (tdx-module facts 9.2). */

/** Offsets in TDINFO. */
const TDINFO = {
  ATTRIBUTES: 0,
  XFAM: 8,
  MRTD: 16,
  MRCONFIGID: 64,
  MROWNER: 112,
  MROWNERCONFIG: 160,
  RTMR: 208,
  SERVTD_HASH: 400,
} as const;

/** Offsets in TEE_TCB_INFO. */
const TCB = { VALID: 0, TEE_TCB_SVN: 8, MRSEAM: 24, MRSIGNERSEAM: 72 } as const;
/** Fields that are there: bytes 0 to 71 and the ones after, eight at a time. */
const TCB_VALID = 0x1ffn;
/** Security version of the module: minor SVN 5, major SVN 1. */
const TCB_SVN = [5, 1] as const;

/** Stands for the module's image, which a real MRSEAM is the hash of. MRSIGNERSEAM is zero for Intel's own signature. */
const MODULE_IDENTITY = "seamless-td TDX module 1.5";

function tcbInfo(): Uint8Array {
  const info = new Uint8Array(TDREPORT.TEE_TCB_INFO_SIZE);
  const view = new DataView(info.buffer);
  view.setBigUint64(TCB.VALID, TCB_VALID, true);
  info.set(TCB_SVN, TCB.TEE_TCB_SVN);
  info.set(hash384(ascii(MODULE_IDENTITY)), TCB.MRSEAM);
  return info;
}

/** TDINFO_STRUCT of the TD, 512 bytes. */
function tdInfo(call: Call): Uint8Array {
  const { tdcs } = call.td;
  const info = new Uint8Array(TDREPORT.TDINFO_SIZE);
  const view = new DataView(info.buffer);
  view.setBigUint64(TDINFO.ATTRIBUTES, tdcs.get64(TDCS.ATTRIBUTES), true);
  view.setBigUint64(TDINFO.XFAM, tdcs.get64(TDCS.XFAM), true);
  info.set(tdcs.bytes(TDCS.MRTD), TDINFO.MRTD);
  info.set(tdcs.bytes(TDCS.MRCONFIGID), TDINFO.MRCONFIGID);
  info.set(tdcs.bytes(TDCS.MROWNER), TDINFO.MROWNER);
  info.set(tdcs.bytes(TDCS.MROWNERCONFIG), TDINFO.MROWNERCONFIG);
  info.set(tdcs.bytes(TDCS.RTMR), TDINFO.RTMR);
  info.set(tdcs.bytes(TDCS.SERVTD_HASH), TDINFO.SERVTD_HASH);
  return info;
}

/** The report with 64 bytes of the caller's data. */
export function makeReport(call: Call, reportData: Uint8Array): Uint8Array {
  const report = new Uint8Array(TDREPORT.SIZE);
  const tcb = tcbInfo();
  const info = tdInfo(call);
  report[TDREPORT.TYPE] = TDREPORT.TYPE_TDX;
  report.set(TCB_SVN, TDREPORT.CPUSVN);
  report.set(hash384(tcb), TDREPORT.TEE_TCB_INFO_HASH);
  report.set(hash384(info), TDREPORT.TEE_INFO_HASH);
  report.set(reportData, TDREPORT.REPORTDATA);
  report.set(reportMac(macKey(call), report.subarray(0, TDREPORT.MAC)), TDREPORT.MAC);
  report.set(tcb, TDREPORT.TEE_TCB_INFO);
  report.set(info, TDREPORT.TDINFO);
  return report;
}

/** True if the MAC of a REPORTMACSTRUCT is this platform's. */
export function isReportValid(call: Call, macStruct: Uint8Array): boolean {
  const expected = reportMac(macKey(call), macStruct.subarray(0, TDREPORT.MAC));
  return expected.every((byte, i) => macStruct[TDREPORT.MAC + i] === byte);
}

/** The platform's secret. Nothing is secret in this machine; verifiers of quotes never see a MAC of it. */
const macKey = (call: Call): Uint8Array => ascii(`report key ${call.state.globalKeyId}`);

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
