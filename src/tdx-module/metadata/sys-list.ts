import { METADATA_LIST_SIZE, METADATA_NULL_ID } from "../../arch/tdx-metadata.js";
import type { SeamContext } from "../../platform/seam.js";
import type { ModuleState } from "../state.js";
import { isNullId } from "./field-index.js";
import { findSysElement, SYS_FIELDS } from "./sys-fields.js";

/** Header of the list: its size in bytes, number of sequences, reserved. */
const LIST_HEADER = 8;
/** Header of a sequence: a field identifier with LAST_FIELD telling how many more elements follow. */
const LAST_FIELD_SHIFT = 38n;

/**
 * The system's metadata as a list, from the field of `firstId` on: one sequence per field. Returns the bytes and the
 * identifier with which to go on (all ones: that was all).
 */
export function sysFieldList(
  state: ModuleState,
  context: SeamContext,
  firstId: bigint,
): { bytes: Uint8Array; next: bigint } {
  const bytes = new Uint8Array(METADATA_LIST_SIZE);
  const view = new DataView(bytes.buffer);
  let at = LIST_HEADER;
  let sequences = 0;
  let next = METADATA_NULL_ID;
  const start = isNullId(firstId) ? 0 : SYS_FIELDS.indexOf(findSysElement(firstId).field);
  for (const field of SYS_FIELDS.slice(start)) {
    if (at + 8 + field.count * 8 > METADATA_LIST_SIZE) {
      next = field.id;
      break;
    }
    view.setBigUint64(at, field.id | (BigInt(field.count - 1) << LAST_FIELD_SHIFT), true);
    for (let i = 0; i < field.count; i++) {
      view.setBigUint64(at + 8 + i * 8, BigInt(field.value(state, context, i)), true);
    }
    at += 8 + field.count * 8;
    sequences++;
  }
  view.setUint16(0, at, true);
  view.setUint16(2, sequences, true);
  return { bytes: bytes.subarray(0, at), next };
}
