/** What a guest told with TDVMCALL ReportFatalError. */
export interface FatalReport {
  /** R12: 0 for a panic. */
  readonly code: bigint;
  readonly text: string;
}

/** Registers by their number in KVM_SYSTEM_EVENT_TDX_FATAL's data. */
const R12 = 12;
/** R14, R15, RBX, RDI, RSI, R8, R9, RDX: 8 characters each. */
const TEXT_REGISTERS = [14, 15, 3, 7, 6, 8, 9, 2] as const;

/** Reads the registers of KVM_SYSTEM_EVENT_TDX_FATAL. */
export function readFatalReport(data: BigUint64Array): FatalReport {
  const bytes = new Uint8Array(8 * TEXT_REGISTERS.length);
  const view = new DataView(bytes.buffer);
  TEXT_REGISTERS.forEach((register, index) => {
    view.setBigUint64(8 * index, data[register] ?? 0n, true);
  });
  const end = bytes.indexOf(0);
  const text = String.fromCharCode(...bytes.subarray(0, end < 0 ? undefined : end)).replace(/[^\x20-\x7e]/g, "?");
  return { code: data[R12] ?? 0n, text };
}
