import { arithmeticRows } from "./arithmetic.js";
import { bitRows } from "./bits.js";
import { controlRows } from "./control.js";
import { cryptoRows } from "./crypto.js";
import { mmxRows } from "./mmx.js";
import { moveRows } from "./move.js";
import type { IsaRow } from "./row.js";
import { shiftRows } from "./shift.js";
import { sseFloatRows } from "./sse-float.js";
import { sseIntegerRows } from "./sse-integer.js";
import { sseMoveRows } from "./sse-move.js";
import { sse4Rows } from "./sse4.js";
import { sse4StringRows } from "./sse4-string.js";
import { stackRows } from "./stack.js";
import { stringRows } from "./string.js";
import { systemRows } from "./system.js";
import { x87Rows } from "./x87.js";
import { x87ControlRows } from "./x87-control.js";
import { x87SystemRows } from "./x87-system.js";

/** The whole instruction table. */
export function isaRows(): readonly IsaRow[] {
  return [
    ...arithmeticRows,
    ...moveRows,
    ...shiftRows,
    ...bitRows,
    ...controlRows,
    ...stackRows,
    ...stringRows,
    ...systemRows,
    ...x87ControlRows,
    ...x87Rows,
    ...x87SystemRows,
    ...sseMoveRows,
    ...sseIntegerRows,
    ...sseFloatRows,
    ...sse4Rows,
    ...sse4StringRows,
    ...mmxRows,
    ...cryptoRows,
  ];
}
