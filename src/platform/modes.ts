/** Where a logical processor is. "root" is VMX root operation outside SEAM: host kernel and VMM. */
export type Mode = "root" | "seam-root" | "seam-non-root" | "smm" | "shutdown";

/** Events that can be latched, most urgent first (SDM 3A 6.9; smi-mca facts 1.2). MSMI is an SMI with a flag. */
export const EVENT_ORDER = ["mc", "smi", "init", "nmi", "intr"] as const;
export type EventKind = (typeof EVENT_ORDER)[number];

/**
 * What a mode does with a pending event:
 * "take": it happens at the next instruction boundary; "take-if-enabled": if RFLAGS.IF of the host is 1;
 * "exit": VM exit that consumes it; "exit-pending": VM exit, the event stays pending;
 * "hold": stays latched; "shutdown": the logical processor shuts down.
 */
export type Disposition = "take" | "take-if-enabled" | "exit" | "exit-pending" | "hold" | "shutdown";

/** smi-mca facts 1.2, 1.5 and 1.6, one row per mode. */
export const MODE_TABLE: Readonly<Record<Mode, Readonly<Record<EventKind, Disposition>>>> = {
  // INIT is blocked in VMX root operation and stays pending (SDM 3C 24.8).
  root: { mc: "take", smi: "take", init: "hold", nmi: "take", intr: "take-if-enabled" },
  // SEAMCALL inhibits SMI and NMI, the module runs with IF=0; a machine check is the unbreakable shutdown.
  "seam-root": { mc: "shutdown", smi: "hold", init: "hold", nmi: "hold", intr: "hold" },
  // An SMI is not for the module to consume; with "acknowledge interrupt on exit" an INTR is.
  "seam-non-root": { mc: "exit", smi: "exit-pending", init: "exit", nmi: "exit", intr: "exit" },
  // CR4.MCE is 0 in SMM: #MC there is a shutdown.
  smm: { mc: "shutdown", smi: "hold", init: "hold", nmi: "hold", intr: "hold" },
  shutdown: { mc: "hold", smi: "hold", init: "hold", nmi: "hold", intr: "hold" },
};
