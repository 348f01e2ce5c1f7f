import { describe, expect, it } from "vitest";
import { EPT_ENTRY } from "../../arch/ept.js";
import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT, KVM_MEMORY_ATTRIBUTE_PRIVATE } from "../../arch/kvm-uapi.js";
import { TDH } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import { SharedEpt } from "./mmu/shared-ept.js";
import { asyncExit, type FakeTd, type GuestStep, makeTd, TEST_SLOT_BYTES } from "./testing.js";

const SHARED = 1n << 47n;
const READ = 1n;
const WRITE = 2n;
const FETCH = 4n;
const STOP = asyncExit(7n);
const violation = (gpa: bigint, qualification = READ, rdx = 0n): GuestStep =>
  asyncExit(48n, { rcx: qualification, rdx, r8: gpa });

function run(td: FakeTd, ...steps: GuestStep[]): number {
  td.machine.guest.push(...steps, STOP);
  return td.vcpu.run();
}

/** Walks the shared EPT as the processor does. */
function walk(td: FakeTd, gpa: bigint): bigint {
  const { host } = td.machine.memory;
  let table = BigInt(td.vm.mmu.sharedEpt()?.root ?? 0);
  for (const shift of [39n, 30n, 21n]) {
    const entry = host.read64(Number(table + 8n * ((gpa >> shift) & 511n)));
    if ((entry & 7n) === 0n) return entry;
    table = entry & EPT_ENTRY.ADDRESS;
  }
  return host.read64(Number(table + 8n * ((gpa >> 12n) & 511n)));
}

const makeShared = (td: FakeTd, address = 0, size = TEST_SLOT_BYTES): void => {
  expect(td.vm.setMemoryAttributes({ address, size, attributes: 0 })).toBe(0);
};

describe("private EPT violations", () => {
  it("augment the page, whatever the access was", () => {
    const td = makeTd();
    expect(run(td, violation(0x5000n, FETCH))).toBe(0);
    expect(td.machine.leaves).toEqual([
      "VP_WR",
      "VP_ENTER",
      "MEM_SEPT_ADD",
      "MEM_SEPT_ADD",
      "MEM_SEPT_ADD",
      "MEM_PAGE_AUG",
      "VP_ENTER",
    ]);
    expect(td.vm.mmu.mirror.lookup(5)).toBe(td.gmem.lookup(5));
    const fault = td.machine.seen.find(({ event }) => event === "kvm-page-fault");
    expect(fault?.fields).toMatchObject({ address: 0x5000n, errorCode: WRITE });
    expect(run(td, violation(0x5000n))).toBe(0);
    expect(td.vcpu.stats).toMatchObject({ pfTaken: 2, pfFixed: 1, pfSpurious: 1 });
  });

  it("before accept are the guest's death", () => {
    const td = makeTd();
    expect(run(td, violation(0x5000n, READ, 6n))).toBe(-ERRNO.EIO);
    expect([td.vm.vmDead, td.vm.vmBugged]).toEqual([true, false]);
    expect(td.kernel.log).toContain("kvm: Guest access before accepting 0x5000 on vCPU 0");
    expect(td.vcpu.run()).toBe(-ERRNO.EIO);
  });

  it("of a pending page that has permissions are ordinary", () => {
    expect(run(makeTd(), violation(0x5000n, READ | (7n << 3n), 6n))).toBe(0);
  });

  it("of shared memory, of no slot and of a lost page end in KVM_EXIT_MEMORY_FAULT", () => {
    const td = makeTd();
    makeShared(td, 0x8000, 0x1000);
    const { kvmRun } = td.vcpu;
    expect(run(td, violation(0x8123n))).toBe(-ERRNO.EFAULT);
    expect(kvmRun.exitReason).toBe(KVM_EXIT.MEMORY_FAULT);
    expect(kvmRun.memoryFault).toEqual({ flags: 8, gpa: 0x8000, size: 4096 });
    const attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
    td.vm.setMemoryAttributes({ address: 0x10000000, size: 0x1000, attributes });
    td.machine.guest.length = 0;
    expect(run(td, violation(0x10000000n))).toBe(-ERRNO.EFAULT);
    const page = td.gmem.getPage(9);
    td.kernel.pages.setHwPoison(page);
    td.machine.guest.length = 0;
    expect(run(td, violation(0x9000n))).toBe(-ERRNO.EHWPOISON);
    expect(kvmRun.exitReason).toBe(KVM_EXIT.MEMORY_FAULT);
  });

  it("are retried inside KVM while the Secure EPT is busy", () => {
    const td = makeTd();
    let tries = 0;
    td.machine.answers.set(TDH.MEM_PAGE_AUG, () => (++tries < 4 ? 0x8000_0200_0000_0092n : 0n));
    expect(run(td, violation(0x5000n))).toBe(0);
    expect(tries).toBe(4);
    expect(td.machine.leaves.filter((leaf) => leaf === "VP_ENTER").length).toBe(2);
  });

  it("stop retrying when something waits for the guest", () => {
    const td = makeTd();
    td.machine.answers.set(TDH.MEM_PAGE_AUG, () => {
      td.vcpu.nmi();
      return 0x8000_0200_0000_0092n;
    });
    expect(run(td, violation(0x5000n))).toBe(0);
  });

  it("that the module refuses bug the VM", () => {
    const td = makeTd();
    td.machine.answers.set(TDH.MEM_SEPT_ADD, (regs) => {
      regs[GPR.RCX] = 0x8000_0000_0000_0000n;
      regs[GPR.RDX] = 3n;
      return 0xc000_0b0d_0000_0001n;
    });
    expect(run(td, violation(0x5000n))).toBe(-ERRNO.EIO);
    expect(td.vm.vmBugged).toBe(true);
    expect(td.kernel.log.at(-1)).toBe(
      "SEAMCALL TDH.MEM.SEPT.ADD failed: 0xc0000b0d00000001, entry 0x8000000000000000, level_state 0x3",
    );
  });
});

describe("shared EPT violations", () => {
  it("map the VMM's memory, writable and cached", () => {
    const td = makeTd();
    makeShared(td);
    expect(run(td, violation(SHARED | 0x5008n, WRITE))).toBe(0);
    const hpa = td.kernel.userMemory.hvaToHpa(td.userAddress + 0x5000, false) ?? 0;
    const entry = walk(td, SHARED | 0x5000n);
    expect(Number(entry & EPT_ENTRY.ADDRESS)).toBe(hpa);
    expect(entry & 0x3fn).toBe(0x37n);
    expect(entry & EPT_ENTRY.SUPPRESS_VE).not.toBe(0n);
    // Its neighbour has not been touched: it exits.
    expect(walk(td, SHARED | 0x6000n)).toBe(1n << 63n);
    expect(walk(td, 0x5000n)).toBe(1n << 63n);
  });

  it("where no memory is become #VE in the guest", () => {
    const td = makeTd();
    expect(run(td, violation(SHARED | 0xfec00000n, READ))).toBe(0);
    expect(walk(td, SHARED | 0xfec00000n)).toBe(0n);
    expect(walk(td, SHARED | 0xfec01000n)).toBe(1n << 63n);
  });

  it("of private memory are implicit conversions", () => {
    const td = makeTd();
    expect(run(td, violation(SHARED | 0x5000n))).toBe(-ERRNO.EFAULT);
    expect(td.vcpu.kvmRun.memoryFault).toEqual({ flags: 0, gpa: 0x5000, size: 4096 });
  });

  it("by instruction fetch bug the VM", () => {
    const td = makeTd();
    makeShared(td);
    expect(run(td, violation(SHARED | 0x5000n, FETCH))).toBe(-ERRNO.EIO);
    expect(td.vm.vmBugged).toBe(true);
  });

  it("of a lost page bring SIGBUS to the vCPU's thread", () => {
    const td = makeTd();
    makeShared(td);
    td.kernel.userMemory.write(td.userAddress, new Uint8Array([1]));
    td.kernel.userMemory.unmapPoisoned(td.userAddress);
    const signals: number[] = [];
    td.kernel.signalHandler = (_task, signal) => signals.push(signal.hva ?? 0);
    expect(run(td, violation(SHARED))).toBe(-ERRNO.EINTR);
    expect(signals).toEqual([td.userAddress]);
  });

  it("go away with the user's memory", () => {
    const td = makeTd();
    makeShared(td);
    run(td, violation(SHARED | 0x5000n), violation(SHARED | 0x6000n));
    td.kernel.userMemory.munmap(td.userAddress + 0x5000, 0x1000);
    expect(walk(td, SHARED | 0x5000n)).toBe(1n << 63n);
    expect(walk(td, SHARED | 0x6000n) & 7n).toBe(7n);
    expect(run(td)).toBe(0);
    expect(td.machine.invepts).toBe(1);
  });
});

describe("conversion", () => {
  it("to shared zaps the private page the slow way", () => {
    const td = makeTd();
    td.vcpu.preFaultMemory({ gpa: 0x5000, size: 0x2000 });
    td.machine.calls.length = 0;
    const hpa = td.gmem.lookup(5) ?? 0;
    makeShared(td, 0x5000, 0x1000);
    expect(td.machine.leaves).toEqual(["MEM_RANGE_BLOCK", "MEM_TRACK", "MEM_PAGE_REMOVE", "PHYMEM_PAGE_WBINVD"]);
    expect(td.machine.calls[3]?.inputs[GPR.RCX]).toBe(BigInt(hpa) + (BigInt(td.vm.td.hkid) << 46n));
    expect([td.vm.mmu.mirror.lookup(5), td.vm.mmu.mirror.mapped]).toEqual([null, 1]);
    expect(td.gmem.punchHole(0x5000, 0x1000)).toBe(0);
    expect(td.kernel.pages.isFree(hpa)).toBe(true);
  });

  it("to private zaps the shared page", () => {
    const td = makeTd();
    makeShared(td);
    run(td, violation(SHARED | 0x5000n));
    const attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
    td.vm.setMemoryAttributes({ address: 0x5000, size: 0x1000, attributes });
    expect(walk(td, SHARED | 0x5000n)).toBe(1n << 63n);
  });

  it("waits once for a busy Secure EPT, with the vCPUs kept out", () => {
    const td = makeTd();
    td.vcpu.preFaultMemory({ gpa: 0, size: 0x1000 });
    const waits: boolean[] = [];
    let tries = 0;
    td.machine.answers.set(TDH.MEM_RANGE_BLOCK, () => {
      waits.push(td.vm.td.waitForSeptZap);
      return ++tries === 1 ? 0x8000_0200_0000_0092n : 0n;
    });
    makeShared(td, 0, 0x1000);
    expect(waits).toEqual([false, true]);
    expect([td.vm.td.waitForSeptZap, td.vm.vmBugged]).toEqual([false, false]);
  });

  it("that stays busy bugs the VM, and the page stays with the TD", () => {
    const td = makeTd();
    td.vcpu.preFaultMemory({ gpa: 0, size: 0x1000 });
    const hpa = td.gmem.lookup(0) ?? 0;
    td.machine.answers.set(TDH.MEM_TRACK, () => 0x8000_0200_0000_00a9n);
    makeShared(td, 0, 0x1000);
    expect(td.vm.vmBugged).toBe(true);
    td.gmem.punchHole(0, 0x1000);
    expect(td.kernel.pages.isFree(hpa)).toBe(false);
  });

  it("deleting a slot zaps it", () => {
    const td = makeTd();
    td.vcpu.preFaultMemory({ gpa: 0, size: 0x3000 });
    const { vm, userAddress, gmem } = td;
    const region = { slot: 0, flags: 4, guestPhysAddr: 0, userspaceAddr: userAddress, guestMemfd: gmem };
    expect(vm.setUserMemoryRegion2({ ...region, memorySize: 0 })).toBe(0);
    expect(vm.mmu.mirror.mapped).toBe(0);
    expect(gmem.presentPages).toBe(3);
  });
});

it("five levels walk with the shared bit at 51", () => {
  const { machine, kernel } = makeTd();
  const ept = SharedEpt.create(machine.memory.host, kernel.pages, 5);
  const gpa = 2 ** 51 + 0x123456000;
  expect(ept?.map(gpa, 0x777000)).toBe(true);
  expect(ept?.entry(gpa)).toBe(0x8000000000777337n);
  expect(machine.memory.host.read64((ept?.root ?? 0) + 8 * 8) & 7n).toBe(7n);
  expect(ept?.zap(gpa - 0x1000, 600)).toBe(true);
  expect(ept?.zap(gpa, 1)).toBe(false);
});
