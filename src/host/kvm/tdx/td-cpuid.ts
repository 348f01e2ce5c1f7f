import { ERRNO } from "../../../arch/errno.js";
import { KVM_CPUID_FLAG_SIGNIFICANT_INDEX } from "../../../arch/kvm-uapi.js";
import { cpuidValuesField } from "../../../arch/linux-tdx-fields.js";
import type { KvmCpuidEntry2 } from "../cpuid.js";
import type { Td } from "./td.js";

const EXTENDED = 0x80000000;
const ADDRESS_SIZES = 0x80000008;
const GPAW_SHIFT = 16;
/** Leaf numbers whose bits 30:7 are set have no metadata field. */
const LEAF_BITS = 0x7f;
const MAX_SUBLEAF = 0x7f;

/** struct kvm_cpuid2 as KVM_TDX_GET_CPUID takes it: `nent` is how many entries fit, and comes back as how many there are. */
export interface KvmTdxGetCpuid {
  nent: number;
  entries: KvmCpuidEntry2[];
}

/** KVM_TDX_GET_CPUID: the CPUID values that the module has for the TD. */
export function readTdCpuid(td: Td, result: KvmTdxGetCpuid): number {
  const entries: KvmCpuidEntry2[] = [];
  for (const base of [0, EXTENDED]) {
    const first = read(td, base, null) ?? read(td, base, 0);
    if (first === null) return -ERRNO.EIO;
    for (let leaf = base; leaf <= Math.min(first.eax, base + LEAF_BITS); leaf++) readLeaf(td, leaf, entries);
  }
  const room = result.nent;
  result.nent = entries.length;
  if (entries.length > room) return -ERRNO.E2BIG;
  result.entries = entries;
  return 0;
}

function readLeaf(td: Td, leaf: number, entries: KvmCpuidEntry2[]): void {
  const whole = read(td, leaf, null);
  if (whole !== null) {
    entries.push(whole);
    return;
  }
  for (let subleaf = 0; subleaf <= MAX_SUBLEAF; subleaf++) {
    const entry = read(td, leaf, subleaf);
    if (entry === null) return;
    entries.push(entry);
  }
}

function read(td: Td, leaf: number, subleaf: number | null): KvmCpuidEntry2 | null {
  if (td.leaves.mngRd(td.tdr, cpuidValuesField(leaf, subleaf, 0)) !== 0n) return null;
  const first = td.leaves.value;
  if (td.leaves.mngRd(td.tdr, cpuidValuesField(leaf, subleaf, 1)) !== 0n) return null;
  const second = td.leaves.value;
  let eax = Number(first & 0xffff_ffffn);
  if (leaf === ADDRESS_SIZES) eax = ((eax & ~(0xff << GPAW_SHIFT)) | (td.gpaw << GPAW_SHIFT)) >>> 0;
  return {
    function: leaf,
    index: subleaf ?? 0,
    flags: subleaf === null ? 0 : KVM_CPUID_FLAG_SIGNIFICANT_INDEX,
    eax,
    ebx: Number(first >> 32n),
    ecx: Number(second & 0xffff_ffffn),
    edx: Number(second >> 32n),
  };
}
