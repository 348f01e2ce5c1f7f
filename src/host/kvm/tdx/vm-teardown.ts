import type { FreeReport } from "../../mm/page-allocator.js";
import type { Vm } from "../vm.js";
import { destroyTd, reclaimControlPage, releaseHkid } from "./td-teardown.js";
import { freeVcpu } from "./td-vcpu.js";

/** What became of a TD's guest pages. private = returned + withheld + leaked; addresses are HPAs. */
export interface TeardownReport {
  readonly private: number;
  readonly returned: number;
  readonly withheld: readonly number[];
  readonly leaked: number;
}

/**
 * The end of a VM. `fixed`: the KeyID is released first, and then every page can be reclaimed, also from a fatal TD.
 * `linux-6.16`: guest_memfd holds the VM, so that private memory is zapped while the KeyID is live; on a fatal TD that fails,
 * and all its pages leak (smi-mca 3.9).
 */
export function destroyVm(vm: Vm): TeardownReport {
  const { td, kernel } = vm;
  const { id: lp } = td.tdx.lp;
  for (const vcpu of vm.vcpus) vcpu.apic.timer.stop();
  for (const vcpu of vm.vcpus) {
    kernel.stopTick(vcpu.cpu);
    kernel.vmmThreads.splice(kernel.vmmThreads.indexOf(vcpu.task), 1);
  }
  const hkidFirst = kernel.profile !== "linux-6.16";
  if (hkidFirst) releaseHkid(td);
  const report = closeFiles(vm, lp);
  if (!hkidFirst) releaseHkid(td);
  if (!td.hkidAssigned) for (const page of vm.mmu.mirror.tablePages.splice(0)) reclaimControlPage(td, page);
  vm.mmu.destroy(lp);
  for (const vcpu of vm.vcpus) freeVcpu(vcpu);
  destroyTd(td);
  vm.freePids();
  return report;
}

/** Closes every guest_memfd of the VM, which zaps what is mapped of it. */
function closeFiles(vm: Vm, lp: number): TeardownReport {
  const total = { returned: 0, withheld: [] as number[], referenced: [] as number[] };
  for (const file of vm.takeFiles()) {
    const report: FreeReport = file.close(lp);
    total.returned += report.returned;
    total.withheld.push(...report.withheld);
    total.referenced.push(...report.referenced);
  }
  const leaked = total.referenced.length;
  return {
    private: total.returned + total.withheld.length + leaked,
    returned: total.returned,
    withheld: total.withheld,
    leaked,
  };
}
