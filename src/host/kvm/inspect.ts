import { KVM_MP_STATE } from "../../arch/kvm-uapi.js";
import type { VcpuStats } from "./stats.js";
import { TD_STATE } from "./tdx/td.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** A vCPU from outside, as KVM has it: nothing of the guest's own state, which KVM cannot see. */
export interface VcpuView {
  readonly id: number;
  readonly lp: number;
  readonly mpState: string;
  readonly initialized: boolean;
  readonly tdvpr: number;
  /** RAX of the last TDH.VP.ENTER, and the reason that KVM made of it. */
  readonly status: bigint;
  readonly exitReason: number;
  readonly nmiPending: boolean;
  /** Posted, and not taken by the processor yet. */
  readonly posted: readonly number[];
  /** ns of the clock at which the APIC timer goes off, null if it is not armed. */
  readonly timerDeadlineNs: number | null;
  readonly stats: Readonly<VcpuStats>;
}

/** A VM from outside: plain values, for people and for tools. */
export interface VmView {
  readonly state: string;
  readonly bugged: boolean;
  readonly dead: boolean;
  readonly hkid: number;
  readonly tdr: number;
  readonly gpaw: number;
  readonly privatePages: number;
  readonly septPages: number;
  readonly sharedEptRoot: number | null;
  readonly slots: readonly {
    readonly id: number;
    readonly gpa: number;
    readonly pages: number;
    readonly hva: number;
  }[];
  readonly vcpus: readonly VcpuView[];
  readonly exits: Readonly<Record<string, number>>;
}

const nameIn = (table: Readonly<Record<string, number>>, value: number): string =>
  Object.entries(table).find(([, number]) => number === value)?.[0] ?? String(value);

function inspectVcpu(vcpu: Vcpu): VcpuView {
  const { deadlineNs } = vcpu.apic.timer;
  return {
    id: vcpu.id,
    lp: vcpu.cpu.lp.id,
    mpState: nameIn(KVM_MP_STATE, vcpu.mpState),
    initialized: vcpu.tdVcpu.initialized,
    tdvpr: vcpu.tdVcpu.tdvpr,
    status: vcpu.status,
    exitReason: vcpu.exitReason,
    nmiPending: vcpu.nmiPending > 0,
    posted: vcpu.pi.vectors,
    timerDeadlineNs: deadlineNs === Number.POSITIVE_INFINITY ? null : deadlineNs,
    stats: { ...vcpu.stats },
  };
}

/** What a VM is doing right now. Changes nothing. */
export function inspectVm(vm: Vm): VmView {
  const { td, mmu } = vm;
  return {
    state: nameIn(TD_STATE, td.state),
    bugged: vm.vmBugged,
    dead: vm.vmDead,
    hkid: td.hkid,
    tdr: td.tdr,
    gpaw: td.gpaw,
    privatePages: mmu.mirror.mapped,
    septPages: mmu.mirror.tablePages.length,
    sharedEptRoot: mmu.sharedEptRoot,
    slots: mmu.slots.all.map(({ id, baseGfn, pages, userspaceAddr }) => ({
      id,
      gpa: baseGfn * 4096,
      pages,
      hva: userspaceAddr,
    })),
    vcpus: vm.closed ? [] : vm.vcpus.map(inspectVcpu),
    exits: vm.exitCounts,
  };
}
