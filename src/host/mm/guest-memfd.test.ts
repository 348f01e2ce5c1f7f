import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { GuestMemfd } from "./guest-memfd.js";
import { PAGE_SIZE } from "./page.js";
import { FIRST, testAllocator } from "./testing.js";

function testFile(pages: number, memoryPages = pages) {
  const host = testAllocator(memoryPages);
  const file = new GuestMemfd(host.allocator, pages * PAGE_SIZE);
  const zaps: (readonly [string, number, number])[] = [];
  const client = (name: string) => ({
    invalidateRange: (start: number, end: number) => void zaps.push([name, start, end]),
  });
  return { ...host, file, zaps, client };
}

describe("guest_memfd", () => {
  it("allocates a page at its first use and keeps it", () => {
    const { file, allocator } = testFile(4);
    expect(allocator.counters.free).toBe(4);
    const hpa = file.getPage(2);
    expect(hpa).toBe(FIRST);
    expect(file.getPage(2)).toBe(hpa);
    expect(file.lookup(2)).toBe(hpa);
    expect(file.lookup(1)).toBeNull();
    expect(file.indexOfPage(hpa)).toBe(2);
    expect(file.presentPages).toBe(1);
    expect(allocator.counters.free).toBe(3);
  });

  it("answers with the kernel's error numbers", () => {
    const { file, allocator } = testFile(4, 1);
    expect(file.getPage(4)).toBe(-ERRNO.EINVAL);
    const hpa = file.getPage(0);
    expect(file.getPage(1)).toBe(-ERRNO.ENOMEM);
    allocator.setHwPoison(hpa);
    expect(file.getPage(0)).toBe(-ERRNO.EHWPOISON);
    expect(file.lookup(0)).toBe(hpa);
    file.close();
    expect(file.getPage(0)).toBe(-ERRNO.EFAULT);
    expect(file.punchHole(0, PAGE_SIZE)).toBe(-ERRNO.EBADF);
  });

  it("binds a range to one client", () => {
    const { file, client } = testFile(8);
    const slot = client("a");
    expect(file.bind(0, 4, slot)).toBe(0);
    expect(file.bind(3, 2, client("b"))).toBe(-ERRNO.EEXIST);
    expect(file.bind(4, 5, client("b"))).toBe(-ERRNO.EINVAL);
    expect(file.bind(4, 0, client("b"))).toBe(-ERRNO.EINVAL);
    file.unbind(slot);
    expect(file.bind(3, 2, client("b"))).toBe(0);
  });

  it("zaps before it frees the pages of a hole", () => {
    const { file, allocator } = testFile(8);
    const pages = [0, 1, 2, 3].map((index) => file.getPage(index));
    const seen: number[] = [];
    file.bind(1, 6, {
      invalidateRange: (start, end) => void seen.push(start, end, allocator.references(pages[2] as number)),
    });
    expect(file.punchHole(2 * PAGE_SIZE, 100 * PAGE_SIZE)).toBe(0);
    expect(seen).toEqual([2, 7, 1]);
    expect([0, 1, 2, 3].map((index) => file.lookup(index))).toEqual([pages[0], pages[1], null, null]);
    expect(allocator.counters.free).toBe(6);
    expect(file.punchHole(1, PAGE_SIZE)).toBe(-ERRNO.EINVAL);
    expect(file.punchHole(0, 0)).toBe(-ERRNO.EINVAL);
  });

  it("gives a page of zeros after a hole", () => {
    const { file, memory } = testFile(1);
    const hpa = file.getPage(0);
    memory.write(hpa, Uint8Array.of(7));
    file.punchHole(0, PAGE_SIZE);
    expect(memory.read(file.getPage(0), 1)).toEqual(Uint8Array.of(0));
  });

  it("keeps a lost page until it is closed, and the allocator then withholds it", () => {
    const { file, allocator, zaps, client } = testFile(4);
    file.bind(0, 4, client("slot"));
    const pages = [0, 1, 2].map((index) => file.getPage(index));
    const lost = pages[1] as number;
    allocator.setHwPoison(lost);
    expect(file.errorRemovePage(1)).toBe("Delayed");
    expect(zaps).toEqual([["slot", 1, 2]]);
    expect(file.lookup(1)).toBe(lost);
    expect(file.close()).toEqual({ returned: 2, withheld: [lost], referenced: [] });
    expect(zaps.at(-1)).toEqual(["slot", 0, 4]);
    expect(allocator.counters).toEqual({ total: 4, free: 3, poisoned: 1, withheld: 1 });
    expect(file.closed).toBe(true);
    expect(file.close()).toEqual({ returned: 0, withheld: [], referenced: [] });
  });

  it("leaves a page that KVM has pinned to KVM", () => {
    const { file, allocator } = testFile(2);
    const hpa = file.getPage(0);
    allocator.getPage(hpa);
    expect(file.close()).toEqual({ returned: 0, withheld: [], referenced: [hpa] });
    expect(allocator.isFree(hpa)).toBe(false);
  });

  it("goes on from a saved state", () => {
    const { file, allocator } = testFile(8);
    for (const index of [1, 2, 6]) file.getPage(index);
    const other = new GuestMemfd(allocator, 8 * PAGE_SIZE);
    other.restore(structuredClone(file.state));
    expect(other.presentPages).toBe(3);
    expect([0, 1, 2, 6].map((index) => other.lookup(index))).toEqual([0, 1, 2, 6].map((index) => file.lookup(index)));
  });
});
