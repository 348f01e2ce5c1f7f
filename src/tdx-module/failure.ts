/** Ends a leaf with a completion status; thrown by checks, caught where leaves are dispatched. */
export class LeafFailure {
  constructor(readonly status: bigint) {}
}

/** Ends the leaf under way with `status`, or-ed with an operand id or other details. */
export function fail(status: bigint, details = 0n): never {
  throw new LeafFailure(status | details);
}
