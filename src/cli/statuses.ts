import type { OutcomeName } from "../observe/outcome.js";
import { STATUS } from "./errors.js";

/** Exit status of each outcome. "stopped" has the status of what stopped it. */
const STATUS_OF: Readonly<Record<OutcomeName, number>> = {
  "power-off": STATUS.powerOff,
  reset: STATUS.guestFatal,
  "td-fatal": STATUS.tdFatal,
  "guest-fatal": STATUS.guestFatal,
  limit: STATUS.limit,
  stopped: STATUS.sigint,
  "host-panic": STATUS.failure,
  "module-dead": STATUS.failure,
  error: STATUS.failure,
};

export function statusOf(end: { readonly outcome: OutcomeName; readonly status?: number }): number {
  return end.status ?? STATUS_OF[end.outcome];
}

/** Outcomes after which the user wants to know where the guest was. */
export function wantsWhereabouts(outcome: OutcomeName): boolean {
  return outcome !== "power-off" && outcome !== "stopped";
}
