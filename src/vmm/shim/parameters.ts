import { PAGE_SIZE } from "./layout.js";

/** Bytes [start, end) of guest physical memory, whole pages. */
export interface GpaRange {
  readonly start: number;
  readonly end: number;
}

/** What the shim has to know, in a measured page of its own. */
export interface ShimParameters {
  /** GPA of the kernel's 64-bit entry. */
  readonly kernelEntry: number;
  /** GPA of boot_params. */
  readonly bootParams: number;
  /** GPA of the mailbox at which further vCPUs wait to be woken; 0: they sleep for good. */
  readonly mailbox: number;
  /** Memory that was not added when the TD was built and that the shim accepts. */
  readonly accept: readonly GpaRange[];
}

/** Offsets in the page, u64 each. */
export const PARAMETER = {
  KERNEL_ENTRY: 0,
  BOOT_PARAMS: 8,
  MAILBOX: 16,
  RANGE_COUNT: 24,
  /** Pairs of start and end. */
  RANGES: 32,
} as const;

const MAX_RANGES = Math.floor((PAGE_SIZE - PARAMETER.RANGES) / 16);

export function encodeParameters({ kernelEntry, bootParams, mailbox, accept }: ShimParameters): Uint8Array {
  if (accept.length > MAX_RANGES) throw new RangeError(`${accept.length} ranges to accept, at most ${MAX_RANGES} fit`);
  const bytes = new Uint8Array(PAGE_SIZE);
  const view = new DataView(bytes.buffer);
  const put = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);
  put(PARAMETER.KERNEL_ENTRY, kernelEntry);
  put(PARAMETER.BOOT_PARAMS, bootParams);
  put(PARAMETER.MAILBOX, mailbox);
  put(PARAMETER.RANGE_COUNT, accept.length);
  accept.forEach(({ start, end }, index) => {
    put(PARAMETER.RANGES + 16 * index, start);
    put(PARAMETER.RANGES + 16 * index + 8, end);
  });
  return bytes;
}
