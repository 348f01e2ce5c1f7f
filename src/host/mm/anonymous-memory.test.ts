import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { SI_CODE } from "../../arch/siginfo.js";
import { AnonymousMemory, BusError, OutOfMemory, SegmentationFault } from "./anonymous-memory.js";
import { PAGE_SIZE } from "./page.js";
import { FIRST, testAllocator } from "./testing.js";

function testMemory(pages: number) {
  const host = testAllocator(pages);
  return { ...host, user: new AnonymousMemory(host.allocator, host.memory) };
}

describe("anonymous memory", () => {
  it("allocates at the first write; what was never written reads as zeros", () => {
    const { user, allocator } = testMemory(4);
    const hva = user.mmap(3 * PAGE_SIZE);
    expect(user.read(hva, 8)).toEqual(new Uint8Array(8));
    expect(user.hvaToHpa(hva, false)).toBeNull();
    expect(allocator.counters.free).toBe(4);
    user.write(hva + PAGE_SIZE - 2, Uint8Array.of(1, 2, 3, 4));
    expect(allocator.counters.free).toBe(2);
    expect(user.residentPages).toBe(2);
    expect(user.read(hva + PAGE_SIZE - 3, 6)).toEqual(Uint8Array.of(0, 1, 2, 3, 4, 0));
    expect(user.hvaToHpa(hva + 5, false)).toBe(FIRST + 5);
    expect(user.hvaOfPage(FIRST)).toBe(hva);
    expect(user.hvaOfPage(FIRST + 2 * PAGE_SIZE)).toBe(-1);
  });

  it("gives KVM a page for a shared mapping", () => {
    const { user, memory } = testMemory(1);
    const hva = user.mmap(2 * PAGE_SIZE);
    const hpa = user.hvaToHpa(hva + 0x10, true) as number;
    memory.write(hpa, Uint8Array.of(9));
    expect(user.read(hva + 0x10, 1)).toEqual(Uint8Array.of(9));
    expect(user.hvaToHpa(hva + PAGE_SIZE, true)).toBe(-ERRNO.ENOMEM);
    expect(() => user.write(hva + PAGE_SIZE, Uint8Array.of(1))).toThrow(OutOfMemory);
  });

  it("faults outside its mappings, also between two of them", () => {
    const { user } = testMemory(4);
    const first = user.mmap(1);
    const second = user.mmap(PAGE_SIZE);
    expect(second).toBeGreaterThan(first + PAGE_SIZE);
    expect(user.hvaToHpa(first + PAGE_SIZE, true)).toBe(-ERRNO.EFAULT);
    expect(() => user.read(first + PAGE_SIZE - 1, 2)).toThrow(SegmentationFault);
  });

  it("tells its clients before it unmaps, and frees the pages", () => {
    const { user, allocator } = testMemory(4);
    const hva = user.mmap(4 * PAGE_SIZE);
    user.write(hva, new Uint8Array(4 * PAGE_SIZE).fill(1));
    const told: unknown[] = [];
    const stop = user.addClient({
      invalidateRange: (start, end) => told.push([start - hva, end - hva, user.residentPages]),
    });
    expect(user.munmap(hva + PAGE_SIZE, 2 * PAGE_SIZE)).toBe(0);
    expect(told).toEqual([[PAGE_SIZE, 3 * PAGE_SIZE, 4]]);
    expect(allocator.counters.free).toBe(2);
    expect(user.read(hva, 1)).toEqual(Uint8Array.of(1));
    expect(user.read(hva + 3 * PAGE_SIZE, 1)).toEqual(Uint8Array.of(1));
    expect(() => user.read(hva + PAGE_SIZE, 1)).toThrow(SegmentationFault);
    expect(user.munmap(hva + 1, PAGE_SIZE)).toBe(-ERRNO.EINVAL);
    stop();
    user.unmapAll();
    expect(told).toHaveLength(1);
    expect(allocator.counters.free).toBe(4);
  });

  it("answers a touch of a lost page with SIGBUS", () => {
    const { user, allocator } = testMemory(2);
    const hva = user.mmap(PAGE_SIZE);
    user.write(hva, Uint8Array.of(1));
    const hpa = user.hvaToHpa(hva, false) as number;
    allocator.setHwPoison(hpa);
    user.unmapPoisoned(hva);
    expect(allocator.withheldPages).toEqual([hpa]);
    expect(user.hvaToHpa(hva, true)).toBe(-ERRNO.EHWPOISON);
    let caught: unknown;
    try {
      user.read(hva + 8, 1);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(BusError);
    expect((caught as BusError).siginfo).toEqual({
      signal: "SIGBUS",
      code: SI_CODE.BUS_MCEERR_AR,
      hva: hva + 8,
      addressLsb: 12,
    });
    user.unmapAll();
    expect(allocator.counters).toEqual({ total: 2, free: 1, poisoned: 1, withheld: 1 });
  });

  it("goes on from a saved state", () => {
    const { user, allocator, memory } = testMemory(4);
    const hva = user.mmap(2 * PAGE_SIZE);
    user.write(hva, Uint8Array.of(5));
    const other = new AnonymousMemory(allocator, memory);
    other.restore(structuredClone(user.state));
    expect(other.read(hva, 1)).toEqual(Uint8Array.of(5));
    expect(other.mmap(1)).toBe(user.mmap(1));
  });
});
