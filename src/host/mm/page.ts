import { PAGE_SHIFT, PAGE_SIZE } from "../../arch/page.js";

export { PAGE_SHIFT, PAGE_SIZE };

/** Page frame number of a host physical address. */
export const pfnOf = (hpa: number): number => Math.floor(hpa / PAGE_SIZE);
/** First byte of a page frame. */
export const hpaOf = (pfn: number): number => pfn * PAGE_SIZE;
/** True for the first byte of a page. */
export const isPageAligned = (address: number): boolean => address % PAGE_SIZE === 0;

/** Adjacent pages, by the first one's number. */
export interface PageRun {
  readonly first: number;
  readonly count: number;
}

/** Joins page numbers, which must ascend, into runs. */
export function* runsOf(pages: Iterable<number>): Generator<PageRun> {
  let first = -1;
  let count = 0;
  for (const page of pages) {
    if (count > 0 && page === first + count) {
      count += 1;
      continue;
    }
    if (count > 0) yield { first, count };
    first = page;
    count = 1;
  }
  if (count > 0) yield { first, count };
}
