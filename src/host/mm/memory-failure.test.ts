import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { SI_CODE } from "../../arch/siginfo.js";
import { AnonymousMemory } from "./anonymous-memory.js";
import { GuestMemfd } from "./guest-memfd.js";
import type { HostProfile } from "./host-profile.js";
import { MemoryFailure, MF } from "./memory-failure.js";
import { PAGE_SIZE, pfnOf } from "./page.js";
import { Task } from "./task.js";
import { FIRST, testAllocator } from "./testing.js";

function testHost(hostProfile: HostProfile = "fixed") {
  const host = testAllocator(8);
  const failure = new MemoryFailure({ allocator: host.allocator, events: host.bus, hostProfile });
  const user = new AnonymousMemory(host.allocator, host.memory);
  const task = new Task("vcpu0", user);
  failure.addProcess(user, [task]);
  const file = new GuestMemfd(host.allocator, 4 * PAGE_SIZE);
  failure.addFile(file);
  const hva = user.mmap(PAGE_SIZE);
  user.write(hva, Uint8Array.of(1));
  return { ...host, failure, user, task, file, hva, userPfn: pfnOf(user.hvaToHpa(hva, false) as number) };
}

describe("memory failure", () => {
  it("knows nothing of memory that is not the kernel's", () => {
    const { failure, allocator } = testHost();
    expect(failure.memoryFailure(pfnOf(FIRST) - 1, 0)).toBe(-ERRNO.ENXIO);
    expect(allocator.counters.poisoned).toBe(0);
  });

  it("takes a free page out of the allocator", () => {
    const { failure, allocator } = testHost();
    const pfn = pfnOf(FIRST) + 7;
    expect(failure.memoryFailure(pfn, 0)).toBe(0);
    expect(failure.records).toEqual([{ pfn, kind: "free buddy page", result: "Recovered", error: 0 }]);
    expect(allocator.counters.withheld).toBe(1);
    expect(failure.hardwareCorruptedKib).toBe(4);
  });

  it("can do nothing about a page of the kernel's own", () => {
    const { failure, allocator } = testHost();
    const hpa = allocator.allocPage() as number;
    expect(failure.memoryFailure(pfnOf(hpa), 0)).toBe(-ERRNO.EBUSY);
    expect(failure.records.at(-1)).toMatchObject({ kind: "kernel page", result: "Ignored" });
    expect(allocator.isHwPoison(hpa)).toBe(true);
    expect(allocator.freePage(hpa)).toBe("withheld");
  });

  it("unmaps a user page and signals the task that ran into it", () => {
    const { failure, user, task, hva, userPfn, allocator } = testHost();
    expect(failure.memoryFailure(userPfn, MF.ACTION_REQUIRED, task)).toBe(0);
    expect(task.returnToUser()).toEqual({ signal: "SIGBUS", code: SI_CODE.BUS_MCEERR_AR, hva, addressLsb: 12 });
    expect(task.hasPendingSignal).toBe(false);
    expect(user.hvaToHpa(hva, true)).toBe(-ERRNO.EHWPOISON);
    expect(allocator.counters.withheld).toBe(1);
    expect(failure.records.at(-1)).toMatchObject({ kind: "dirty LRU page", result: "Recovered" });
  });

  it.each([
    { earlyKill: false, signals: null },
    { earlyKill: true, signals: SI_CODE.BUS_MCEERR_AO },
  ])("signals at once without need only if asked to: $earlyKill", ({ earlyKill, signals }) => {
    const { failure, task, userPfn } = testHost();
    task.earlyKill = earlyKill;
    expect(failure.memoryFailure(userPfn, 0, task)).toBe(0);
    expect(task.returnToUser()?.code ?? null).toBe(signals);
  });

  it("tells of a page that was poisoned before", () => {
    const { failure, task, user, userPfn, allocator, hva } = testHost();
    allocator.setHwPoison(user.hvaToHpa(hva, false) as number);
    expect(failure.memoryFailure(userPfn, 0, task)).toBe(-ERRNO.EHWPOISON);
    expect(task.hasPendingSignal).toBe(false);
    expect(failure.memoryFailure(userPfn, MF.ACTION_REQUIRED, task)).toBe(-ERRNO.EHWPOISON);
    expect(task.returnToUser()).toMatchObject({ code: SI_CODE.BUS_MCEERR_AR, hva });
    expect(failure.hardwareCorruptedKib).toBe(0);
  });

  it.each([
    { hostProfile: "fixed", error: 0, result: "Delayed" },
    { hostProfile: "linux-6.16", error: -ERRNO.EBUSY, result: "Failed" },
  ] as const)("zaps a guest_memfd page and leaves it in the file ($hostProfile)", ({ hostProfile, error, result }) => {
    const { failure, file, task, allocator, events } = testHost(hostProfile);
    const zaps: number[] = [];
    file.bind(0, 4, { invalidateRange: (start, end) => void zaps.push(start, end) });
    const hpa = file.getPage(3);
    events.length = 0;
    expect(failure.memoryFailure(pfnOf(hpa), MF.ACTION_REQUIRED, task, 1)).toBe(error);
    expect(zaps).toEqual([3, 4]);
    expect(file.getPage(3)).toBe(-ERRNO.EHWPOISON);
    expect(task.hasPendingSignal).toBe(false);
    expect(events.map((event) => event.event)).toEqual(["page-poisoned", "memory-failure"]);
    expect(events[1]?.fields).toEqual({ hpa: BigInt(hpa), kind: "clean unevictable LRU page", result, error });
    expect(file.close().withheld).toEqual([hpa]);
    expect(allocator.counters.withheld).toBe(1);
  });
});
