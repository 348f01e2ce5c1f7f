import { KVM_CPUID_FLAG_SIGNIFICANT_INDEX } from "../../arch/kvm-uapi.js";

/** struct kvm_cpuid_entry2. Registers are unsigned 32-bit. */
export interface KvmCpuidEntry2 {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** struct kvm_cpuid2 with its entries. */
export interface KvmCpuid2 {
  padding?: number;
  entries: readonly KvmCpuidEntry2[];
}

/** EAX, EBX, ECX, EDX and how they were found, for the trace. */
export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
  found: boolean;
  usedMaxBasic: boolean;
}

const HYPERVISOR_FIRST = 0x40000000;
const HYPERVISOR_LAST = 0x4fffffff;
const CENTAUR_FIRST = 0xc0000000;
const TOPOLOGY_LEAVES: ReadonlySet<number> = new Set([0xb, 0x1f]);

/** A vCPU's CPUID as its VMM set it (KVM_SET_CPUID2; kvm_cpuid in arch/x86/kvm/cpuid.c). */
export class VcpuCpuid {
  #entries: readonly KvmCpuidEntry2[] = [];

  get entries(): readonly KvmCpuidEntry2[] {
    return this.#entries;
  }

  set(entries: readonly KvmCpuidEntry2[]): void {
    this.#entries = entries.map((entry) => ({ ...entry }));
  }

  find(leaf: number, index: number): KvmCpuidEntry2 | undefined {
    return this.#entries.find(
      (entry) =>
        entry.function === leaf && ((entry.flags & KVM_CPUID_FLAG_SIGNIFICANT_INDEX) === 0 || entry.index === index),
    );
  }

  /** Physical-address width that the guest was told: CPUID 0x80000008, 36 without it. */
  get maxPhysicalAddressBits(): number {
    const max = this.find(0x80000000, 0);
    const entry = max !== undefined && max.eax >= 0x80000008 ? this.find(0x80000008, 0) : undefined;
    return entry === undefined ? 36 : entry.eax & 0xff;
  }

  /** The instruction's answer. A leaf out of range gives the highest basic leaf, as on Intel's processors. */
  query(leaf: number, index: number, result: CpuidResult): void {
    let entry = this.find(leaf, index);
    result.found = entry !== undefined;
    result.usedMaxBasic = false;
    if (entry === undefined) {
      entry = this.#outOfRange(leaf, index);
      result.usedMaxBasic = entry !== undefined;
    }
    result.eax = entry?.eax ?? 0;
    result.ebx = entry?.ebx ?? 0;
    result.ecx = entry?.ecx ?? 0;
    result.edx = entry?.edx ?? 0;
    if (entry !== undefined || !TOPOLOGY_LEAVES.has(leaf)) return;
    // Beyond the last topology level, subleaf and x2APIC id are still given.
    const first = this.find(leaf, 1);
    if (first === undefined) return;
    result.ecx = index & 0xff;
    result.edx = first.edx;
  }

  #outOfRange(leaf: number, index: number): KvmCpuidEntry2 | undefined {
    const basic = this.find(0, 0);
    if (basic === undefined) return undefined;
    const range = this.find(rangeOf(leaf), 0);
    if (range !== undefined && leaf <= range.eax) return undefined;
    return this.find(basic.eax, index);
  }
}

function rangeOf(leaf: number): number {
  if (leaf >= HYPERVISOR_FIRST && leaf <= HYPERVISOR_LAST) return (leaf & 0xffffff00) >>> 0;
  if (leaf >= CENTAUR_FIRST) return CENTAUR_FIRST;
  return (leaf & 0x80000000) >>> 0;
}
