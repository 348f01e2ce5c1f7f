import { MSR_KVM_POLL_CONTROL } from "../../arch/kvm-uapi.js";
import { MCG_CAP } from "../../arch/mca.js";
import { FEATURE_CONTROL, MISC_ENABLE, MSR, X2APIC_MSR } from "../../arch/msr.js";
import type { LocalApic } from "./lapic.js";

/** What the MSRs of a vCPU hang on. */
export interface MsrOwner {
  readonly apic: LocalApic;
  readonly apicBase: bigint;
  readonly maxPhysicalAddressBits: number;
}

/** One access: `host` is KVM_GET_MSRS / KVM_SET_MSRS, otherwise it is the guest's. */
type Read = (file: MsrValues, index: number, host: boolean) => bigint | null;
type Write = (file: MsrValues, index: number, value: bigint, host: boolean) => boolean;

interface MsrRow {
  readonly name: string;
  readonly first: number;
  readonly last: number;
  readonly read: Read;
  readonly write: Write;
}

const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** KVM_MAX_MCE_BANKS; a new vCPU has them all. */
const MCE_BANKS = 32;
const PAT_RESET = 0x0007_0406_0007_0406n;
/** Intel's revision number in a vCPU that nobody gave one. */
const UCODE_RESET = 0x1_0000_0000n;
/** Eight variable ranges, fixed ranges, write combining. */
const MTRR_CAP = 0x508n;
const EFER_OF_TD = 0xd01n;
const CPUID_FAULTING = 1n << 31n;
const MISC_ENABLE_RESET = MISC_ENABLE.PEBS_UNAVAILABLE | MISC_ENABLE.BTS_UNAVAILABLE;
const CTL2_WRITABLE = (1n << 30n) | 0x7fffn;
const MTRR_DEF_TYPE_WRITABLE = 0xcffn;
const MTRR_LAST = 0x26f;

const stored: Read = (file, index) => file.value(index);
const store: Write = (file, index, value) => file.set(index, value);
const readOnly: Write = () => false;
const hostOnly: Write = (file, index, value, host) => host && file.set(index, value);
const constant =
  (value: bigint): Read =>
  () =>
    value;

const row = (name: string, first: number, read: Read, write: Write, last: number = first): MsrRow => ({
  name,
  first,
  last,
  read,
  write,
});

/** The MSRs that KVM emulates for a TD (kvm-tdx-host 6.1); every other one is refused. The x2APIC's follow below. */
const ROWS: readonly MsrRow[] = [
  row("IA32_APICBASE", MSR.IA32_APIC_BASE, (file) => file.owner.apicBase, readOnly),
  row("IA32_FEAT_CTL", MSR.IA32_FEATURE_CONTROL, (file) => file.featureControl, readOnly),
  row("IA32_UCODE_REV", MSR.IA32_BIOS_SIGN_ID, stored, (file, index, value, host) => !host || file.set(index, value)),
  row("PLATFORM_INFO", MSR.IA32_PLATFORM_INFO, stored, hostOnly),
  row("MTRRcap", MSR.IA32_MTRRCAP, constant(MTRR_CAP), readOnly),
  row("IA32_ARCH_CAPABILITIES", MSR.IA32_ARCH_CAPABILITIES, stored, hostOnly),
  row(
    "MISC_FEATURES_ENABLES",
    MSR.MISC_FEATURES_ENABLES,
    stored,
    (file, i, value) => value <= 1n && file.set(i, value),
  ),
  row("IA32_MCG_CAP", MSR.IA32_MCG_CAP, stored, hostOnly),
  row("IA32_MCG_STATUS", MSR.IA32_MCG_STATUS, stored, store),
  row(
    "IA32_MCG_CTL",
    MSR.IA32_MCG_CTL,
    (file, i, host) => (file.has(MCG_CAP.CTL_P) || host ? file.value(i) : null),
    writeMcgCtl,
  ),
  row("IA32_MISC_ENABLE", MSR.IA32_MISC_ENABLE, stored, writeMiscEnable),
  row("IA32_POWER_CTL", MSR.POWER_CTL, stored, store),
  row("MTRRs", MSR.IA32_MTRR_PHYSBASE0, readMtrr, writeMtrr, MTRR_LAST),
  row("IA32_CR_PAT", MSR.IA32_PAT, stored, (file, i, value) => patValid(value) && file.set(i, value)),
  row("IA32_MCx_CTL2", MSR.IA32_MC0_CTL2, readCtl2, writeCtl2, MSR.IA32_MC0_CTL2 + MCE_BANKS - 1),
  row("MTRRdefType", MSR.IA32_MTRR_DEF_TYPE, stored, writeMtrr),
  row("IA32_MCx", MSR.IA32_MC0_CTL, readBank, writeBank, MSR.IA32_MC0_CTL + 4 * MCE_BANKS - 1),
  row(
    "IA32_MCG_EXT_CTL",
    MSR.IA32_MCG_EXT_CTL,
    (file, i) => (file.has(MCG_CAP.LMCE_P) ? file.value(i) : null),
    (file, i, value) => file.has(MCG_CAP.LMCE_P) && value <= 1n && file.set(i, value),
  ),
  row("IA32_TSC_DEADLINE", MSR.IA32_TSC_DEADLINE, (file) => file.owner.apic.timer.tscDeadline, writeTscDeadline),
  row("IA32_EFER", MSR.IA32_EFER, constant(EFER_OF_TD), readOnly),
  row("KVM_POLL_CONTROL", MSR_KVM_POLL_CONTROL, stored, (file, i, value) => value <= 1n && file.set(i, value)),
];

/** x2APIC registers that the processor does not virtualise. */
const X2APIC: ReadonlySet<number> = new Set([
  X2APIC_MSR.ID,
  X2APIC_MSR.VERSION,
  X2APIC_MSR.LDR,
  X2APIC_MSR.SVR,
  X2APIC_MSR.ESR,
  X2APIC_MSR.LVT_CMCI,
  X2APIC_MSR.ICR,
  X2APIC_MSR.LVT_TIMER,
  X2APIC_MSR.LVT_THERMAL,
  X2APIC_MSR.LVT_PERFMON,
  X2APIC_MSR.LVT_LINT0,
  X2APIC_MSR.LVT_LINT1,
  X2APIC_MSR.LVT_ERROR,
  X2APIC_MSR.INITIAL_COUNT,
  X2APIC_MSR.CURRENT_COUNT,
  X2APIC_MSR.DIVIDE_CONFIGURATION,
]);

/** The MSRs of one vCPU, as TDVMCALLs and host ioctls see them. */
export class MsrValues {
  readonly #values = new Map<number, bigint>([
    [MSR.IA32_BIOS_SIGN_ID, UCODE_RESET],
    [MSR.IA32_PLATFORM_INFO, CPUID_FAULTING],
    [MSR.IA32_MISC_ENABLE, MISC_ENABLE_RESET],
    [MSR.IA32_MCG_CAP, BigInt(MCE_BANKS)],
    [MSR.IA32_PAT, PAT_RESET],
    [MSR_KVM_POLL_CONTROL, 1n],
  ]);

  constructor(readonly owner: MsrOwner) {}

  /** Null: refused. */
  read(index: number, host: boolean): bigint | null {
    if (X2APIC.has(index)) return this.owner.apic.read(index);
    return rowOf(index)?.read(this, index, host) ?? null;
  }

  /** False: refused. */
  write(index: number, value: bigint, host: boolean): boolean {
    if (X2APIC.has(index)) return this.owner.apic.write(index, value);
    return rowOf(index)?.write(this, index, value, host) ?? false;
  }

  /** KVM_X86_SETUP_MCE: banks and capabilities; CTL of every bank enabled. */
  setupMce(mcgCap: bigint): boolean {
    const banks = Number(mcgCap & MCG_CAP.BANK_COUNT);
    if (banks === 0 || banks > MCE_BANKS) return false;
    this.#values.set(MSR.IA32_MCG_CAP, mcgCap);
    if ((mcgCap & MCG_CAP.CTL_P) !== 0n) this.#values.set(MSR.IA32_MCG_CTL, ALL_ONES);
    for (let bank = 0; bank < banks; bank++) this.#values.set(MSR.IA32_MC0_CTL + 4 * bank, ALL_ONES);
    return true;
  }

  has(capability: bigint): boolean {
    return (this.value(MSR.IA32_MCG_CAP) & capability) !== 0n;
  }

  get featureControl(): bigint {
    return FEATURE_CONTROL.LOCK | (this.has(MCG_CAP.LMCE_P) ? FEATURE_CONTROL.LMCE_ON : 0n);
  }

  value(index: number): bigint {
    return this.#values.get(index) ?? 0n;
  }

  set(index: number, value: bigint): true {
    this.#values.set(index, value);
    return true;
  }
}

function rowOf(index: number): MsrRow | undefined {
  return ROWS.find((candidate) => index >= candidate.first && index <= candidate.last);
}

function writeMcgCtl(file: MsrValues, index: number, value: bigint, host: boolean): boolean {
  if (!file.has(MCG_CAP.CTL_P) && (value !== 0n || !host)) return false;
  return (value === 0n || value === ALL_ONES) && file.set(index, value);
}

const hasBank = (file: MsrValues, index: number): boolean =>
  (index - MSR.IA32_MC0_CTL) >> 2 < Number(file.value(MSR.IA32_MCG_CAP) & MCG_CAP.BANK_COUNT);

function readBank(file: MsrValues, index: number): bigint | null {
  return hasBank(file, index) ? file.value(index) : null;
}

/** A bank's CTL takes all or nothing (with two bits that old systems leave out); a guest may only clear STATUS. */
function writeBank(file: MsrValues, index: number, value: bigint, host: boolean): boolean {
  const register = (index - MSR.IA32_MC0_CTL) & 3;
  if (!hasBank(file, index)) return false;
  if (register === 0 && value !== 0n && (value | (1n << 10n) | 1n) !== ALL_ONES) return false;
  if (register === 1 && value !== 0n && !host) return false;
  return file.set(index, value);
}

function readCtl2(file: MsrValues, index: number, host: boolean): bigint | null {
  return file.has(MCG_CAP.CMCI_P) || host ? file.value(index) : null;
}

function writeCtl2(file: MsrValues, index: number, value: bigint, host: boolean): boolean {
  if (!file.has(MCG_CAP.CMCI_P) && (value !== 0n || !host)) return false;
  return (value & ~CTL2_WRITABLE) === 0n && file.set(index, value);
}

/** Bits that say what is not there cannot be changed; writes to the performance-monitoring bit are ignored. */
function writeMiscEnable(file: MsrValues, index: number, value: bigint, host: boolean): boolean {
  if (host) return file.set(index, value);
  const old = file.value(index);
  if (((old ^ value) & MISC_ENABLE_RESET) !== 0n) return false;
  return file.set(index, (value & ~MISC_ENABLE.PERFMON_AVAILABLE) | (old & MISC_ENABLE.PERFMON_AVAILABLE));
}

const isVariableMtrr = (index: number): boolean => index < MSR.IA32_MTRR_PHYSBASE0 + 16;
const isFixedMtrr = (index: number): boolean =>
  index === MSR.IA32_MTRR_FIX64K_00000 ||
  (index >= MSR.IA32_MTRR_FIX16K_80000 && index <= MSR.IA32_MTRR_FIX16K_A0000) ||
  (index >= MSR.IA32_MTRR_FIX4K_C0000 && index <= MSR.IA32_MTRR_FIX4K_F8000);

function readMtrr(file: MsrValues, index: number): bigint | null {
  return isVariableMtrr(index) || isFixedMtrr(index) ? file.value(index) : null;
}

function writeMtrr(file: MsrValues, index: number, value: bigint): boolean {
  if (index === MSR.IA32_MTRR_DEF_TYPE) {
    return (value & ~MTRR_DEF_TYPE_WRITABLE) === 0n && mtrrType(value & 0xffn) && file.set(index, value);
  }
  if (isFixedMtrr(index)) return bytesOf(value).every(mtrrType) && file.set(index, value);
  if (!isVariableMtrr(index)) return false;
  const reserved = ALL_ONES & ~((1n << BigInt(file.owner.maxPhysicalAddressBits)) - 1n);
  const isBase = (index & 1) === 0;
  const invalid = isBase
    ? (value & (0xf00n | reserved)) !== 0n || !mtrrType(value & 0xffn)
    : (value & (0x7ffn | reserved)) !== 0n;
  return !invalid && file.set(index, value);
}

const mtrrType = (type: bigint): boolean => type < 8n && ((1n << type) & 0x73n) !== 0n;
const patValid = (value: bigint): boolean => bytesOf(value).every((type) => type < 8n && type !== 2n && type !== 3n);
const bytesOf = (value: bigint): bigint[] => Array.from({ length: 8 }, (_, i) => (value >> BigInt(8 * i)) & 0xffn);

function writeTscDeadline(file: MsrValues, _index: number, value: bigint): boolean {
  file.owner.apic.timer.tscDeadline = value;
  return true;
}
