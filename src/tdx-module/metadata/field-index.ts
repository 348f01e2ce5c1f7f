import {
  METADATA_CONTEXT_MASK,
  METADATA_MUST_BE_ZERO,
  METADATA_NULL_ID,
  metadataKey,
} from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { fail } from "../failure.js";
import type { Accessor, Field, StructureLayout } from "../structures/layout.js";
import type { StructureView } from "../structures/view.js";

/** One element of a field, and the structure that holds it. */
export interface Element {
  readonly field: Field;
  readonly index: number;
  readonly layout: StructureLayout;
  readonly id: bigint;
}

/** The fields of one metadata context by identifier. */
export class FieldIndex {
  readonly #elements = new Map<number, Element>();
  readonly #order: bigint[] = [];

  constructor(
    readonly context: number,
    layouts: readonly StructureLayout[],
  ) {
    for (const layout of layouts) {
      for (const field of layout.fields) {
        for (let i = 0; field.id !== null && i < field.count; i++) this.add(field.id + BigInt(i), layout, field, i);
      }
    }
  }

  /** Adds an element under an identifier. */
  add(id: bigint, layout: StructureLayout, field: Field, index: number): void {
    const full = (id & ~METADATA_CONTEXT_MASK) | (BigInt(this.context) << 52n);
    this.#elements.set(metadataKey(full), { field, index, layout, id: full });
    this.#order.push(full);
  }

  /** The element of an identifier; ends the leaf if there is none. The context in the identifier does not count. */
  find(id: bigint): Element {
    const element = (id & METADATA_MUST_BE_ZERO) === 0n ? this.#elements.get(metadataKey(id)) : undefined;
    return element ?? fail(TDX_STATUS.METADATA_FIELD_ID_INCORRECT);
  }

  /** The first identifier. */
  get first(): bigint {
    return this.#order[0] as bigint;
  }

  /** The identifier after this one; all ones after the last. */
  next(element: Element): bigint {
    return this.#order[this.#order.indexOf(element.id) + 1] ?? METADATA_NULL_ID;
  }
}

/** True for the identifier that asks for the first one. */
export const isNullId = (id: bigint): boolean => (id | METADATA_CONTEXT_MASK) === METADATA_NULL_ID;

/** Value of an element for an accessor; ends the leaf if it may not read it. */
export function readElement(view: StructureView, element: Element, who: Accessor): bigint {
  const mask = element.field.access?.read[who] ?? 0n;
  if (mask === 0n) fail(TDX_STATUS.METADATA_FIELD_NOT_READABLE);
  return view.get64(element.field, element.index) & mask;
}

/**
 * Writes the bits of `mask` (tdx-module facts 8.1); returns the old value. `writable` narrows what the field's own mask
 * allows; `check` may refuse or change the new value.
 */
export function writeElement(
  view: StructureView,
  element: Element,
  who: Accessor,
  value: bigint,
  mask: bigint,
  writable: bigint,
  check: (value: bigint) => bigint,
): bigint {
  const { field, index } = element;
  const fieldMask = (1n << BigInt(field.size * 8)) - 1n;
  const allowed = (field.access?.write[who] ?? 0n) & fieldMask & writable;
  const effective = mask & allowed;
  if (effective === 0n) fail(TDX_STATUS.METADATA_FIELD_NOT_WRITABLE);
  const old = view.get64(field, index);
  if (((old ^ value) & mask & fieldMask & ~allowed) !== 0n) fail(TDX_STATUS.METADATA_FIELD_VALUE_NOT_VALID);
  view.set64(field, check((old & ~effective) | (value & effective)), index);
  return old;
}
