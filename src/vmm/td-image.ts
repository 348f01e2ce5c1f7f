/** Pages that are added to the TD and measured before it runs. */
export interface MeasuredRegion {
  /** What it is, for messages. */
  readonly name: string;
  /** Page-aligned. */
  readonly gpa: number;
  /** Filled up with zeros to whole pages. */
  readonly bytes: Uint8Array;
}

/** Whole pages. */
export interface GpaSpan {
  readonly gpa: number;
  readonly size: number;
}

/** A TD that is ready to be built: what its memory holds before the first instruction. */
export interface TdImage {
  /** In the order in which they are measured. */
  readonly regions: readonly MeasuredRegion[];
  /** GPA ranges that exist as private memory, page-aligned: RAM, and what lies below the reset vector. */
  readonly memory: readonly GpaSpan[];
  /** What of it is brought in before the TD runs, to be accepted by the guest. */
  readonly preFault: readonly GpaSpan[];
}
