import { identityMap } from "../../vmm/shim/identity-map.js";
import { PAGE_SIZE } from "../../vmm/shim/layout.js";
import { encodeParameters } from "../../vmm/shim/parameters.js";
import type { TdImage } from "../../vmm/td-image.js";
import { SMALL_TD } from "./layout.js";

/** What a small TD's memory is to be like. */
export interface SmallTdMemory {
  /** Bytes of RAM at GPA 0. */
  readonly ram: number;
  /** Bytes of it, from GPA 0 on, that are brought in before the start and accepted by the runtime; the rest is the guest's to accept. */
  readonly accepted: number;
}

/** Pages of a small TD around its code. */
export function buildImage(code: Uint8Array, { ram, accepted }: SmallTdMemory): TdImage {
  const accept = accepted > 0 ? [{ start: 0, end: accepted }] : [];
  const parameters = encodeParameters({ kernelEntry: 0, bootParams: 0, mailbox: 0, accept });
  const zeros = new Uint8Array(PAGE_SIZE);
  return {
    regions: [
      { name: "page tables", gpa: SMALL_TD.PAGE_TABLES, bytes: identityMap(SMALL_TD.PAGE_TABLES) },
      { name: "stacks", gpa: SMALL_TD.STACKS, bytes: zeros },
      { name: "parameters", gpa: SMALL_TD.PARAMETERS, bytes: parameters },
      { name: "IDT", gpa: SMALL_TD.IDT, bytes: zeros },
      { name: "data", gpa: SMALL_TD.DATA, bytes: zeros },
      { name: "code", gpa: SMALL_TD.CODE, bytes: code },
    ],
    memory: [
      { gpa: 0, size: ram },
      { gpa: SMALL_TD.BASE, size: SMALL_TD.END - SMALL_TD.BASE },
    ],
    preFault: accepted > 0 ? [{ gpa: 0, size: accepted }] : [],
  };
}
