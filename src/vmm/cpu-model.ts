import { KVM_CPUID_FEATURES, KVM_CPUID_SIGNATURE, KVM_FEATURE } from "../arch/kvm-uapi.js";
import type { KvmCpuidEntry2 } from "../host/kvm/cpuid.js";

/**
 * What we ask for where the module lets us choose (KVM_TDX_CAPABILITIES says which bits): leaf, sub-leaf, registers. Leaf 1 EAX
 * of 0 stands for the processor's own family and model.
 */
const WISHES: readonly (readonly [
  leaf: number,
  subleaf: number,
  registers: readonly [number, number, number, number],
])[] = [
  // ECX: TSC deadline timer. EDX: self-snoop.
  [0x1, 0, [0, 0, 1 << 24, 1 << 27]],
  // Caches: L1D 48 KiB, L1I 32 KiB, L2 2 MiB, L3 32 MiB.
  [0x4, 0, [0x0000_0121, 0x02c0_003f, 0x3f, 0]],
  [0x4, 1, [0x0000_0122, 0x01c0_003f, 0x3f, 0]],
  [0x4, 2, [0x0000_0143, 0x03c0_003f, 0x7ff, 0]],
  [0x4, 3, [0x0000_0163, 0x03c0_003f, 0x7fff, 0]],
  // EBX: ERMS. EDX: FSRM. They make copies single instructions.
  [0x7, 0, [0, 1 << 9, 0, 1 << 4]],
  // EAX[23:16]: width of guest physical addresses.
  [0x8000_0008, 0, [48 << 16, 0, 0, 0]],
];

/** A guest with one more thread per package has HTT; its number of logical processors is in leaf 1 EBX[23:16]. */
const HTT = 1 << 28;

/** Values for the leaves that KVM says are configurable. */
export function configureCpuid(configurable: readonly KvmCpuidEntry2[], vcpus: number): KvmCpuidEntry2[] {
  return configurable.map((mask) => {
    const wish = WISHES.find(([leaf, subleaf]) => leaf === mask.function && subleaf === mask.index)?.[2] ?? [
      0, 0, 0, 0,
    ];
    let [eax, ebx, ecx, edx] = wish;
    if (mask.function === 1) ebx |= vcpus << 16;
    if (mask.function === 1 && vcpus > 1) edx |= HTT;
    return {
      ...mask,
      eax: (eax & mask.eax) >>> 0,
      ebx: (ebx & mask.ebx) >>> 0,
      ecx: (ecx & mask.ecx) >>> 0,
      edx: (edx & mask.edx) >>> 0,
    };
  });
}

/** Four characters as the register that holds them. */
const characters = (text: string): number =>
  [...text].reduce((value, character, index) => value | (character.charCodeAt(0) << (8 * index)), 0) >>> 0;

/** KVM's own leaves, which a TD asks for by TDVMCALL: who we are, and that no I/O delay is needed. */
const KVM_LEAVES: readonly KvmCpuidEntry2[] = [
  {
    function: KVM_CPUID_SIGNATURE,
    index: 0,
    flags: 0,
    eax: KVM_CPUID_FEATURES,
    ebx: characters("KVMK"),
    ecx: characters("VMKV"),
    edx: characters("M\0\0\0"),
  },
  { function: KVM_CPUID_FEATURES, index: 0, flags: 0, eax: 1 << KVM_FEATURE.NOP_IO_DELAY, ebx: 0, ecx: 0, edx: 0 },
];

/** The table for KVM_SET_CPUID2: what the module shows the TD, completed by KVM's leaves and the vCPU's APIC id. */
export function vcpuCpuid(moduleValues: readonly KvmCpuidEntry2[], vcpu: number): KvmCpuidEntry2[] {
  const own = moduleValues.map((entry) =>
    entry.function === 1 ? { ...entry, ebx: ((entry.ebx & 0xff_ffff) | (vcpu << 24)) >>> 0 } : entry,
  );
  return [...own, ...KVM_LEAVES];
}
