import { seamcallErrorText } from "./status-name.js";

/** The host could not bring TDX up: its kernel would log this and go on without TDX. */
export class TdxBringUpError extends Error {
  override readonly name = "TdxBringUpError";
  readonly code = "tdx-bring-up";

  constructor(
    readonly step: string,
    /** Completion status of the SEAMCALL, null where the host itself refused. */
    readonly status: bigint | null,
  ) {
    super(status === null ? `virt/tdx: ${step}` : `virt/tdx: ${seamcallErrorText(step, status)}`);
  }
}
