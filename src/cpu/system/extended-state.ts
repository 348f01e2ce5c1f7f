import { CR0, CR4 } from "../../arch/x86.js";
import { CpuException, generalProtection, invalidOpcode, VECTOR } from "../faults.js";
import type { Instruction } from "../isa/instruction.js";
import { REG } from "../layout.js";
import type { CpuEnvironment, SystemOperation } from "./environment.js";
import { edxEax } from "./operands.js";
import { withSummary } from "./x87/stack.js";
import { abridgedTags, fullTags } from "./x87/tags.js";

/**
 * FXSAVE, FXRSTOR and the XSAVE family for XFAM = x87 | SSE: the legacy region (512 bytes) and the XSAVE header (64 bytes)
 * are all there is (SDM 1 chapter 13).
 */

const LEGACY_BYTES = 512;
const HEADER = 512;
const XSTATE_BV = 512;
const XCOMP_BV = 520;
const AREA_BYTES = 576;
const COMPACTED = 1n << 63n;
const X87 = 1n;
const SSE = 2n;
const MXCSR_MASK = 0xffff;
const MXCSR_INIT = 0x1f80;
const FCW_INIT = 0x37f;
const FCW_WRITABLE = 0x1f3f;

const topOf = (fsw: number): number => (fsw >> 11) & 7;

function saveX87(environment: CpuEnvironment, view: DataView, wide: boolean): void {
  const { state } = environment;
  const fsw = state.get16(REG.FSW);
  view.setUint16(0, state.get16(REG.FCW), true);
  view.setUint16(2, fsw, true);
  view.setUint8(4, abridgedTags(state));
  view.setUint8(5, 0);
  view.setUint16(6, state.get16(REG.FOP), true);
  if (wide) {
    view.setBigUint64(8, state.get(REG.FIP), true);
    view.setBigUint64(16, state.get(REG.FDP), true);
  } else {
    view.setUint32(8, Number(state.get(REG.FIP) & 0xffff_ffffn), true);
    view.setUint32(12, state.get16(REG.FCS), true);
    view.setUint32(16, Number(state.get(REG.FDP) & 0xffff_ffffn), true);
    view.setUint32(20, state.get16(REG.FDS), true);
  }
  for (let n = 0; n < 8; n++) {
    const register = REG.FPR + ((topOf(fsw) + n) & 7) * 16;
    view.setBigUint64(32 + n * 16, state.get(register), true);
    view.setBigUint64(40 + n * 16, BigInt(state.get16(register + 8)), true);
  }
}

function loadX87(environment: CpuEnvironment, view: DataView, wide: boolean): void {
  const { state } = environment;
  const fsw = view.getUint16(2, true);
  state.set16(REG.FCW, (view.getUint16(0, true) & FCW_WRITABLE) | 0x40);
  state.set16(REG.FOP, view.getUint16(6, true) & 0x7ff);
  if (wide) {
    state.set(REG.FIP, view.getBigUint64(8, true));
    state.set(REG.FDP, view.getBigUint64(16, true));
  } else {
    state.set(REG.FIP, BigInt(view.getUint32(8, true)));
    state.set(REG.FDP, BigInt(view.getUint32(16, true)));
  }
  for (let n = 0; n < 8; n++) {
    const register = REG.FPR + ((topOf(fsw) + n) & 7) * 16;
    state.set(register, view.getBigUint64(32 + n * 16, true));
    state.set(register + 8, BigInt(view.getUint16(40 + n * 16, true)));
  }
  state.set16(REG.FTW, fullTags(state, view.getUint8(4)));
  state.set16(REG.FSW, withSummary(fsw, state.get16(REG.FCW)));
}

function saveXmm(environment: CpuEnvironment, view: DataView): void {
  const count = environment.state.longMode ? 16 : 8;
  for (let n = 0; n < count * 2; n++) view.setBigUint64(160 + n * 8, environment.state.get(REG.XMM + n * 8), true);
}

function loadXmm(environment: CpuEnvironment, view: DataView): void {
  const count = environment.state.longMode ? 16 : 8;
  for (let n = 0; n < count * 2; n++) environment.state.set(REG.XMM + n * 8, view.getBigUint64(160 + n * 8, true));
}

function initX87(environment: CpuEnvironment): void {
  const { state } = environment;
  state.set16(REG.FCW, FCW_INIT);
  state.set16(REG.FSW, 0);
  state.set16(REG.FTW, 0xffff);
  state.set16(REG.FOP, 0);
  state.set(REG.FIP, 0n);
  state.set(REG.FDP, 0n);
  for (let n = 0; n < 16; n++) state.set(REG.FPR + n * 8, 0n);
}

function initXmm(environment: CpuEnvironment): void {
  for (let n = 0; n < 32; n++) environment.state.set(REG.XMM + n * 8, 0n);
}

function setMxcsr(environment: CpuEnvironment, value: number): void {
  environment.state.set32(REG.MXCSR, value);
}

/** Components that are not in their initial state (XINUSE). */
export function inUse(environment: CpuEnvironment): bigint {
  const { state } = environment;
  let bits = 0n;
  const plain =
    state.get16(REG.FCW) === FCW_INIT &&
    state.get16(REG.FSW) === 0 &&
    state.get16(REG.FTW) === 0xffff &&
    state.get16(REG.FOP) === 0;
  let x87 = !plain || state.get(REG.FIP) !== 0n || state.get(REG.FDP) !== 0n;
  for (let n = 0; n < 16 && !x87; n++) x87 = state.get(REG.FPR + n * 8) !== 0n;
  if (x87) bits |= X87;
  for (let n = 0; n < 32; n++) {
    if (state.get(REG.XMM + n * 8) !== 0n) return bits | SSE;
  }
  return bits;
}

function checkNm(environment: CpuEnvironment): void {
  if (environment.state.get32(REG.CR0) & CR0.TS) throw new CpuException(VECTOR.NM);
}

function fxArea(environment: CpuEnvironment, instruction: Instruction): bigint {
  if (environment.state.get32(REG.CR0) & (CR0.TS | CR0.EM)) throw new CpuException(VECTOR.NM);
  const address = environment.linearAddress(instruction, LEGACY_BYTES);
  if (address & 15n) throw generalProtection();
  return address;
}

const fxsave: SystemOperation = (environment, instruction) => {
  const address = fxArea(environment, instruction);
  environment.linear.probeWrite(address, LEGACY_BYTES);
  const bytes = environment.linear.readBytes(address, LEGACY_BYTES);
  const view = new DataView(bytes.buffer);
  saveX87(environment, view, instruction.operandSize === 8);
  view.setUint32(24, environment.state.get32(REG.MXCSR), true);
  view.setUint32(28, MXCSR_MASK, true);
  saveXmm(environment, view);
  // The last 48 bytes of the area are left to software.
  environment.linear.writeBytes(address, bytes.subarray(0, 464));
  return "next";
};

const fxrstor: SystemOperation = (environment, instruction) => {
  const address = fxArea(environment, instruction);
  const bytes = environment.linear.readBytes(address, LEGACY_BYTES);
  const view = new DataView(bytes.buffer);
  const mxcsr = view.getUint32(24, true);
  if (mxcsr & ~MXCSR_MASK) throw generalProtection();
  loadX87(environment, view, instruction.operandSize === 8);
  setMxcsr(environment, mxcsr);
  loadXmm(environment, view);
  return "next";
};

function xsaveArea(environment: CpuEnvironment, instruction: Instruction): bigint {
  if (!(environment.state.get32(REG.CR4) & CR4.OSXSAVE)) throw invalidOpcode();
  checkNm(environment);
  const address = environment.linearAddress(instruction, AREA_BYTES);
  if (address & 63n) throw generalProtection();
  return address;
}

/** XSAVE, XSAVEOPT (standard format), XSAVEC and XSAVES (compacted, with the init optimisation). */
const save =
  (kind: "xsave" | "xsaveopt" | "xsavec" | "xsaves"): SystemOperation =>
  (environment, instruction) => {
    const { state, linear } = environment;
    const address = xsaveArea(environment, instruction);
    if (kind === "xsaves" && state.cpl !== 0) throw generalProtection();
    const compact = kind === "xsavec" || kind === "xsaves";
    const requested = edxEax(environment) & (state.get(REG.XCR0) | (kind === "xsaves" ? state.get(REG.XSS) : 0n));
    const used = inUse(environment);
    // MXCSR keeps SSE "in use" for the standard format's sake only: it is written whenever SSE is requested.
    const mxcsrUsed = state.get32(REG.MXCSR) !== MXCSR_INIT ? SSE : 0n;
    const saved = kind === "xsave" ? requested : requested & (used | (compact ? mxcsrUsed : 0n));
    linear.probeWrite(address, AREA_BYTES);
    const bytes = linear.readBytes(address, AREA_BYTES);
    const view = new DataView(bytes.buffer);
    if (saved & X87) saveX87(environment, view, instruction.operandSize === 8);
    if (compact ? saved & SSE : requested & SSE) {
      view.setUint32(24, state.get32(REG.MXCSR), true);
      view.setUint32(28, MXCSR_MASK, true);
    }
    if (saved & SSE) saveXmm(environment, view);
    const old = view.getBigUint64(XSTATE_BV, true);
    if (compact) {
      view.setBigUint64(XSTATE_BV, saved, true);
      view.setBigUint64(XCOMP_BV, requested | COMPACTED, true);
    } else view.setBigUint64(XSTATE_BV, (old & ~requested) | (requested & used), true);
    linear.writeBytes(address, bytes);
    return "next";
  };

const restore =
  (supervisor: boolean): SystemOperation =>
  (environment, instruction) => {
    const { state, linear } = environment;
    const address = xsaveArea(environment, instruction);
    if (supervisor && state.cpl !== 0) throw generalProtection();
    const bytes = linear.readBytes(address, AREA_BYTES);
    const view = new DataView(bytes.buffer);
    const xcr0 = state.get(REG.XCR0);
    const allowed = xcr0 | (supervisor ? state.get(REG.XSS) : 0n);
    const present = view.getBigUint64(XSTATE_BV, true);
    const format = view.getBigUint64(XCOMP_BV, true);
    const compact = (format & COMPACTED) !== 0n;
    if (supervisor && !compact) throw generalProtection();
    if (compact) {
      if (format & ~COMPACTED & ~allowed || present & ~format) throw generalProtection();
    } else if (present & ~xcr0 || format !== 0n || view.getBigUint64(HEADER + 16, true) !== 0n)
      throw generalProtection();
    for (let n = 16; compact && n < 64; n += 8) {
      if (view.getBigUint64(HEADER + n, true) !== 0n) throw generalProtection();
    }
    const requested = edxEax(environment) & allowed;
    const mxcsr = view.getUint32(24, true);
    const takesMxcsr = compact ? (requested & present & SSE) !== 0n : (requested & SSE) !== 0n;
    if (takesMxcsr && mxcsr & ~MXCSR_MASK) throw generalProtection();
    if (requested & X87) {
      if (present & X87) loadX87(environment, view, instruction.operandSize === 8);
      else initX87(environment);
    }
    if (requested & SSE) {
      if (present & SSE) loadXmm(environment, view);
      else initXmm(environment);
    }
    if (takesMxcsr) setMxcsr(environment, mxcsr);
    else if (compact && requested & SSE) setMxcsr(environment, MXCSR_INIT);
    return "next";
  };

export const extendedStateOperations: Readonly<Record<string, SystemOperation>> = {
  fxsave,
  fxrstor,
  xsave: save("xsave"),
  xsaveopt: save("xsaveopt"),
  xsavec: save("xsavec"),
  xsaves: save("xsaves"),
  xrstor: restore(false),
  xrstors: restore(true),
};
