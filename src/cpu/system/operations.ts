import { controlRegisterOperations } from "./control-registers.js";
import type { SystemOperation } from "./environment.js";
import { exitOperations } from "./exits.js";
import { extendedStateOperations } from "./extended-state.js";
import { flagOperations } from "./flags.js";
import { miscellaneousOperations } from "./miscellaneous.js";
import { msrOperations } from "./msr.js";
import { segmentOperations } from "./segments.js";
import { transferOperations } from "./transfer.js";
import { x87Operations } from "./x87/operations.js";

/** Every system instruction by the name that its row in the instruction table gives. */
export const systemOperations: Readonly<Record<string, SystemOperation>> = {
  ...controlRegisterOperations,
  ...exitOperations,
  ...extendedStateOperations,
  ...flagOperations,
  ...miscellaneousOperations,
  ...msrOperations,
  ...segmentOperations,
  ...transferOperations,
  ...x87Operations,
};
