import { kvmExitName } from "../arch/kvm-uapi.js";

/** The exit with which KVM left for good. */
export interface FinalExit {
  readonly name: string;
  readonly reason: number;
  readonly suberror?: number;
  readonly data?: readonly bigint[];
}

export type EndOutcome = "power-off" | "reset" | "td-fatal" | "guest-fatal" | "host-panic" | "module-dead" | "error";

/** How a machine came to its end by itself. */
export interface End {
  readonly outcome: EndOutcome;
  /** What happened, in words. */
  readonly message?: string;
  readonly kvmExit?: FinalExit;
  /** The VMM's process got this signal. */
  readonly signal?: string;
}

export const finalExit = (reason: number, more: Pick<FinalExit, "suberror" | "data"> = {}): FinalExit => ({
  name: kvmExitName(reason),
  reason,
  ...more,
});
