import { LINUX_TDX_STATUS } from "../arch/linux-tdx-errno.js";
import { TDX_STATUS, TDX_STATUS_1_0 } from "../arch/tdx-status.js";

/** Which source's status values the module shows where sources differ (facts README, "Where the sources disagree"). */
export type ModuleProfile = "1.5" | "1.0" | "changelog";

/** Statuses that kill a TD, and the one of a dead TD. */
export interface ProfileStatuses {
  readonly NON_RECOVERABLE_TD: bigint;
  readonly NON_ACCESSIBLE: bigint;
  readonly WRONG_APIC_MODE: bigint;
  readonly TD_FATAL: bigint;
}

const MODULE_1_5: ProfileStatuses = {
  NON_RECOVERABLE_TD: TDX_STATUS.NON_RECOVERABLE_TD,
  NON_ACCESSIBLE: TDX_STATUS.NON_RECOVERABLE_TD_NON_ACCESSIBLE,
  WRONG_APIC_MODE: TDX_STATUS.NON_RECOVERABLE_TD_WRONG_APIC_MODE,
  TD_FATAL: TDX_STATUS.TD_FATAL,
};

export const PROFILE_STATUSES: { readonly [profile in ModuleProfile]: ProfileStatuses } = {
  "1.5": MODULE_1_5,
  "1.0": {
    NON_RECOVERABLE_TD: TDX_STATUS_1_0.NON_RECOVERABLE_TD,
    NON_ACCESSIBLE: TDX_STATUS_1_0.NON_RECOVERABLE_TD_NON_ACCESSIBLE,
    WRONG_APIC_MODE: TDX_STATUS_1_0.NON_RECOVERABLE_TD_WRONG_APIC_MODE,
    TD_FATAL: TDX_STATUS_1_0.TD_FATAL,
  },
  // The changelog names one status, for MSMI: the value that Linux's header gives to that name.
  changelog: { ...MODULE_1_5, NON_ACCESSIBLE: LINUX_TDX_STATUS.NON_RECOVERABLE_TD },
};
