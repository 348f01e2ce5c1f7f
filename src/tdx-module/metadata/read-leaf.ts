import { TDX_STATUS } from "../../arch/tdx-status.js";
import { GPR } from "../../platform/seam.js";
import type { RegisterFile } from "../registers.js";
import { type Element, type FieldIndex, isNullId } from "./field-index.js";

/**
 * What the leaves that read a field have in common: the value goes to R8, and version 1 also tells the next identifier in RDX,
 * or the first one if it is asked with the null identifier (tdx-module facts 8.1). Returns the leaf's status.
 */
export function answerRead(
  out: RegisterFile,
  fields: FieldIndex,
  id: bigint,
  version: number,
  read: (element: Element) => bigint,
): bigint {
  if (version > 0 && isNullId(id)) {
    out.set64(GPR.RDX, fields.first);
    return TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT;
  }
  const element = fields.find(id);
  out.set64(GPR.R8, read(element));
  if (version > 0) out.set64(GPR.RDX, fields.next(element));
  return TDX_STATUS.SUCCESS;
}
