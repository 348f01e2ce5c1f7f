import {
  LINUX_TDX_STATUS,
  TDX_SEAMCALL_GP,
  TDX_SEAMCALL_STATUS_MASK,
  TDX_SEAMCALL_UD,
  TDX_SEAMCALL_VMFAILINVALID,
} from "../../arch/linux-tdx-errno.js";

const NAMES = new Map<bigint, string>([
  ...Object.entries(LINUX_TDX_STATUS).map(([name, value]): [bigint, string] => [value, `TDX_${name}`]),
  [TDX_SEAMCALL_VMFAILINVALID & TDX_SEAMCALL_STATUS_MASK, "TDX_SW_ERROR"],
]);
const WHOLE = new Map<bigint, string>([
  [TDX_SEAMCALL_VMFAILINVALID, "TDX_SEAMCALL_VMFAILINVALID"],
  [TDX_SEAMCALL_GP, "TDX_SEAMCALL_GP"],
  [TDX_SEAMCALL_UD, "TDX_SEAMCALL_UD"],
]);

/** Linux's name for a completion status, null if its header has none. */
export function linuxStatusName(status: bigint): string | null {
  return WHOLE.get(status) ?? NAMES.get(status & TDX_SEAMCALL_STATUS_MASK) ?? null;
}

/** "SEAMCALL TDH.MNG.INIT failed: 0xc000010000000040", with the SEPT details where a leaf has them. */
export function seamcallErrorText(leaf: string, status: bigint, sept?: { entry: bigint; levelState: bigint }): string {
  const details =
    sept === undefined ? "" : `, entry 0x${sept.entry.toString(16)}, level_state 0x${sept.levelState.toString(16)}`;
  return `SEAMCALL ${leaf} failed: 0x${status.toString(16).padStart(16, "0")}${details}`;
}
