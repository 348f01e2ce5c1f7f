/** The small TDs that can be run by name. */
export const SMALL_TDS: readonly { readonly name: string; readonly summary: string }[] = [];
