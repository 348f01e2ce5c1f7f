import { TD_CTLS } from "../../arch/tdx-abi.js";
import { CPUID_BIT, CPUID_MAX_BASIC, CPUID_MAX_EXTENDED, CPUID_TABLE } from "../../arch/tdx-cpuid.js";
import { REG } from "../../cpu/layout.js";
import type { VmExit } from "../../cpu/vm-exit.js";
import { GPR } from "../../platform/seam.js";
import { cpuidIndex, cpuidRegister, currentXsaveSize } from "../cpuid-values.js";
import { TDCS } from "../structures/tdcs.js";
import { TDVPS } from "../structures/tdvps.js";
import { injectVe } from "./inject.js";
import { OUTCOME, type Outcome, type Run } from "./run.js";

const CR4_OSXSAVE = 1n << 18n;
const CR4_PKE = 1n << 22n;
/** Leaves for hypervisors: always the VMM's. */
const HYPERVISOR_FIRST = 0x4000_0000;
const HYPERVISOR_LAST = 0x4fff_ffff;
/** Level types of leaves 0xB and 0x1F, in ECX 15:8. */
const LEVEL_TYPE = [1, 2] as const;

/** True if the TD has asked for its topology. */
export const hasTopology = (run: Run): boolean => (run.call.td.tdcs.get64(TDCS.TD_CTLS) & TD_CTLS.ENUM_TOPOLOGY) !== 0n;

/** x2APIC id of the vCPU if the TD has asked for its topology, else its index. */
export function apicId(run: Run): number {
  const index = run.call.vcpu.tdvps.get(TDVPS.VCPU_INDEX);
  return hasTopology(run) ? run.call.td.tdcs.get(TDCS.X2APIC_IDS, index) : index;
}

/** CPUID in a TD (tdx-module facts 7.5). */
export function exitCpuid(run: Run, exit: VmExit): Outcome {
  const { guest, call } = run;
  const { state } = run.cpu;
  const leaf = guest.low(GPR.RAX);
  const subleaf = guest.low(GPR.RCX);
  const trapped = state.cpl === 0 ? TDVPS.CPUID_SUPERVISOR_VE : TDVPS.CPUID_USER_VE;
  if (call.vcpu.tdvps.get(trapped) !== 0) return injectVe(run, exit);
  if (leaf >= HYPERVISOR_FIRST && leaf <= HYPERVISOR_LAST) return injectVe(run, exit);
  const basic = leaf <= CPUID_MAX_BASIC;
  const extended = leaf >= 0x8000_0000 && leaf <= CPUID_MAX_EXTENDED;
  // Out of range, the last basic leaf answers.
  const asked = basic || extended ? leaf : CPUID_MAX_BASIC;
  const withSubleaf = cpuidIndex(asked, subleaf);
  const index = withSubleaf >= 0 ? withSubleaf : cpuidIndex(asked, null);
  const row = CPUID_TABLE[index];
  if (!row || row.source === "ve") return injectVe(run, exit);
  if (row.source === "topology") return hasTopology(run) ? topology(run, subleaf) : injectVe(run, exit);

  const value = [0, 1, 2, 3].map((r) => cpuidRegister(call.td, index, r)) as [number, number, number, number];
  if (asked === 1) {
    value[1] = (value[1] & 0xff_ffff) | (apicId(run) << 24);
    if (state.get(REG.CR4) & CR4_OSXSAVE) value[2] |= CPUID_BIT.L1_ECX_OSXSAVE;
  } else if (asked === 7 && subleaf === 0) {
    if (state.get(REG.CR4) & CR4_PKE) value[2] |= CPUID_BIT.L7_ECX_OSPKE;
  } else if (asked === 0xd && subleaf === 0) {
    value[1] = currentXsaveSize(call.td, Number(state.get(REG.XCR0)), false);
  } else if (asked === 0xd && subleaf === 1) {
    value[1] = currentXsaveSize(call.td, Number(state.get(REG.XCR0) | state.get(REG.XSS)), true);
  } else if (asked === 0x8000_0001 && state.longMode) {
    value[3] |= CPUID_BIT.LX1_EDX_SYSCALL;
  }
  return give(run, value);
}

function give(run: Run, [eax, ebx, ecx, edx]: readonly [number, number, number, number]): Outcome {
  run.guest.setHalves(GPR.RAX, eax, 0);
  run.guest.setHalves(GPR.RBX, ebx, 0);
  run.guest.setHalves(GPR.RCX, ecx, 0);
  run.guest.setHalves(GPR.RDX, edx, 0);
  return OUTCOME.ADVANCE;
}

/** Leaves 0xB and 0x1F: one thread per core, all vCPUs in one package. */
function topology(run: Run, subleaf: number): Outcome {
  const vcpus = run.call.td.tdcs.get(TDCS.MAX_VCPUS);
  const id = apicId(run);
  const type = LEVEL_TYPE[subleaf];
  if (type === undefined) return give(run, [0, 0, subleaf & 0xff, id]);
  const level = subleaf === 0 ? { shift: 0, count: 1 } : { shift: Math.ceil(Math.log2(vcpus)), count: vcpus };
  return give(run, [level.shift, level.count, subleaf | (type << 8), id]);
}
