import { CONFIG_FLAGS, TD_CTLS } from "../../arch/tdx-abi.js";
import { CPUID_TABLE } from "../../arch/tdx-cpuid.js";
import { cpuidFieldCode, METADATA_CONTEXT, TD_FIELD } from "../../arch/tdx-metadata.js";
import type { Accessor } from "../structures/layout.js";
import type { Td } from "../structures/td.js";
import { TDCS, TDCS_LAYOUT } from "../structures/tdcs.js";
import { TDR_LAYOUT } from "../structures/tdr.js";
import type { StructureView } from "../structures/view.js";
import { type Element, FieldIndex, readElement, writeElement } from "./field-index.js";

/** Metadata of a TD: the fields of TDR and TDCS. */
export const TD_FIELDS = new FieldIndex(METADATA_CONTEXT.TD, [TDR_LAYOUT, TDCS_LAYOUT]);
TD_FIELDS.add(TD_FIELD.CONFIG_FLAGS_NON_ARCH, TDCS_LAYOUT, TDCS.CONFIG_FLAGS, 0);
for (const [row, { leaf, subleaf, source }] of CPUID_TABLE.entries()) {
  if (source === "ve" || source === "topology") continue;
  for (const element of [0, 1] as const) {
    const id = TD_FIELD.CPUID_VALUES + BigInt(cpuidFieldCode(leaf, subleaf, element));
    TD_FIELDS.add(id, TDCS_LAYOUT, TDCS.CPUID_VALUES, row * 2 + element);
  }
}

const viewOf = (td: Td, element: Element): StructureView => (element.layout === TDR_LAYOUT ? td.tdr : td.tdcs);

export const readTdField = (td: Td, element: Element, who: Accessor): bigint =>
  readElement(viewOf(td, element), element, who);

export const writeTdField = (td: Td, element: Element, who: Accessor, value: bigint, mask: bigint): bigint =>
  writeElement(viewOf(td, element), element, who, value, mask, writableBits(td, element), (checked) => checked);

/** TD_CTLS: each bit can be set where the TD's configuration has prepared for it. */
function writableBits(td: Td, element: Element): bigint {
  if (element.field !== TDCS.TD_CTLS) return -1n;
  const flexible = (td.tdcs.get64(TDCS.CONFIG_FLAGS) & CONFIG_FLAGS.FLEXIBLE_PENDING_VE) !== 0n;
  const topology = td.tdcs.get(TDCS.TOPOLOGY_ENUM_CONFIGURED) !== 0;
  return (flexible ? TD_CTLS.PENDING_VE_DISABLE : 0n) | (topology ? TD_CTLS.ENUM_TOPOLOGY : 0n);
}
