import { describe, expect, it } from "vitest";
import { PAGE_SIZE } from "./page.js";
import { FIRST, testAllocator } from "./testing.js";

const page = (n: number): number => FIRST + n * PAGE_SIZE;

describe("page allocator", () => {
  it("gives pages in ascending order, then the last freed first, then none", () => {
    const { allocator } = testAllocator(3);
    expect([allocator.allocPage(), allocator.allocPage()]).toEqual([page(0), page(1)]);
    expect(allocator.freePage(page(0))).toBe("returned");
    expect(allocator.freePage(page(1))).toBe("returned");
    expect([1, 2, 3, 4].map(() => allocator.allocPage())).toEqual([page(1), page(0), page(2), null]);
    expect(allocator.counters).toEqual({ total: 3, free: 0, poisoned: 0, withheld: 0 });
  });

  it("zeroes a page only if somebody used it before", () => {
    const { allocator, memory } = testAllocator(2);
    const first = allocator.allocZeroedPage() as number;
    expect(memory.fills).toEqual([]);
    memory.write(first, Uint8Array.of(1));
    allocator.freePage(first);
    expect(allocator.allocZeroedPage()).toBe(first);
    expect(memory.fills).toEqual([first]);
    expect(memory.read(first, 1)).toEqual(Uint8Array.of(0));
  });

  it("allocates aligned blocks from the top and uses the pages around them", () => {
    const { allocator } = testAllocator(16);
    const block = allocator.allocContiguous(4, 8 * PAGE_SIZE) as number;
    expect(block).toBe(page(8));
    expect(allocator.counters.free).toBe(12);
    const rest = Array.from({ length: 12 }, () => allocator.allocPage());
    expect(new Set(rest)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15].map(page)));
    expect(allocator.allocPage()).toBeNull();
    expect(allocator.allocContiguous(1)).toBeNull();
  });

  it("puts no block over poison", () => {
    const { allocator } = testAllocator(8);
    allocator.setHwPoison(page(6));
    expect(allocator.allocContiguous(4)).toBe(page(2));
    const rest = Array.from({ length: 4 }, () => allocator.allocPage());
    expect(rest).toEqual([page(7), page(0), page(1), null]);
  });

  it("refuses a poisoned page at the free path and never gives it out again", () => {
    const { allocator, events } = testAllocator(2);
    const hpa = allocator.allocPage() as number;
    allocator.setHwPoison(hpa, 3);
    expect(allocator.counters).toEqual({ total: 2, free: 1, poisoned: 1, withheld: 0 });
    expect(allocator.freePage(hpa)).toBe("withheld");
    expect(allocator.counters).toEqual({ total: 2, free: 1, poisoned: 1, withheld: 1 });
    expect(allocator.withheldPages).toEqual([hpa]);
    expect([allocator.allocPage(), allocator.allocPage()]).toEqual([page(1), null]);
    expect(events.map(({ event, layer, lp, fields }) => ({ event, layer, lp, fields }))).toEqual([
      { event: "page-poisoned", layer: "mm", lp: 3, fields: { hpa: BigInt(hpa) } },
      { event: "page-withheld", layer: "mm", lp: 0, fields: { hpa: BigInt(hpa), count: 1 } },
    ]);
  });

  it("poisons once", () => {
    const { allocator, events } = testAllocator(2);
    const hpa = allocator.allocPage() as number;
    expect(allocator.setHwPoison(hpa + 0x123)).toBe(true);
    expect(allocator.setHwPoison(hpa)).toBe(false);
    expect(allocator.isHwPoison(hpa + 5)).toBe(true);
    expect(allocator.poisonedPages).toEqual([hpa]);
    expect(events.filter((event) => event.event === "page-poisoned")).toHaveLength(1);
    expect(allocator.counters.poisoned).toBe(1);
  });

  it.each(["listed", "untouched"])("takes a free page that is poisoned out of the free pages (%s)", (kind) => {
    const { allocator } = testAllocator(3);
    if (kind === "listed") allocator.freePage(allocator.allocPage() as number);
    allocator.setHwPoison(page(0));
    expect(allocator.isFree(page(0))).toBe(false);
    expect(allocator.counters).toEqual({ total: 3, free: 2, poisoned: 1, withheld: 1 });
    expect([1, 2, 3].map(() => allocator.allocPage())).toEqual([page(1), page(2), null]);
  });

  it("frees a pinned page when the last reference goes", () => {
    const { allocator } = testAllocator(1);
    const hpa = allocator.allocPage() as number;
    allocator.getPage(hpa);
    expect(allocator.references(hpa)).toBe(2);
    expect(allocator.freePage(hpa)).toBe("referenced");
    expect(allocator.allocPage()).toBeNull();
    expect(allocator.freePage(hpa)).toBe("returned");
    expect(allocator.isFree(hpa)).toBe(true);
  });

  it("reports the pages of one operation by runs", () => {
    const { allocator, events } = testAllocator(6);
    const pages = Array.from({ length: 6 }, () => allocator.allocPage() as number);
    allocator.setHwPoison(page(2));
    allocator.getPage(page(5));
    events.length = 0;
    expect(allocator.freePages(pages.reverse())).toEqual({
      returned: 4,
      withheld: [page(2)],
      referenced: [page(5)],
    });
    expect(events.map(({ event, fields }) => [event, fields.hpa, fields.count])).toEqual([
      ["page-returned", BigInt(page(0)), 2],
      ["page-returned", BigInt(page(3)), 2],
      ["page-withheld", BigInt(page(2)), 1],
    ]);
  });

  it("refuses to free what is not allocated", () => {
    const { allocator } = testAllocator(2);
    expect(() => allocator.freePage(page(0))).toThrow(RangeError);
    expect(() => allocator.freePage(page(9))).toThrow(RangeError);
    const hpa = allocator.allocPage() as number;
    expect(() => allocator.freePage(hpa + 1)).toThrow(RangeError);
  });

  it("knows which frames are its memory", () => {
    const { allocator } = testAllocator(2);
    const pfns = [FIRST / PAGE_SIZE - 1, FIRST / PAGE_SIZE, FIRST / PAGE_SIZE + 1, FIRST / PAGE_SIZE + 2];
    expect(pfns.map((pfn) => allocator.isOnline(pfn))).toEqual([false, true, true, false]);
    // The example of smi-mca facts 3.8, with the KeyID left in.
    expect(allocator.isOnline(Number(0x0008_4001_2345_6000n >> 12n))).toBe(false);
  });

  it("goes on from a saved state", () => {
    const one = testAllocator(8).allocator;
    const pages = [1, 2, 3, 4].map(() => one.allocPage() as number);
    one.freePage(pages[1] as number);
    one.setHwPoison(pages[2] as number);
    one.freePage(pages[2] as number);
    one.allocContiguous(1);
    const other = testAllocator(8).allocator;
    other.restore(structuredClone(one.state));
    expect(other.counters).toEqual(one.counters);
    expect(other.withheldPages).toEqual(one.withheldPages);
    const rest = (allocator: typeof one): unknown => [1, 2, 3, 4, 5].map(() => allocator.allocPage());
    expect(rest(other)).toEqual(rest(one));
  });
});
