import type { DeliveredEvent } from "../interrupts/deliver.js";

/** INT n, INT1, INT3 and INTO ask for the delivery of an event in their place; the core delivers it. */
export class SoftwareEvent {
  constructor(readonly event: DeliveredEvent) {}
}
