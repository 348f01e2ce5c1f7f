import { TD_FIELD } from "../../arch/tdx-metadata.js";
import { ACCESS, StructureLayout } from "./layout.js";

/** Most TDCX pages of a TD (TDCS with three L2 Secure EPT roots). */
export const MAX_TDCX = 9;
/** TDCX pages without L2 VMs: what TDCS_BASE_SIZE tells the host. */
export const MIN_TDCX = 6;

/** TDR: the TD's root page. It is accessed with the module's global KeyID, so it outlives the TD's key. */
export const TDR_LAYOUT = new StructureLayout("TDR", 0x1000);
const field = TDR_LAYOUT.field.bind(TDR_LAYOUT);

export const TDR = {
  FATAL: field("FATAL", 1, { id: TD_FIELD.FATAL, access: ACCESS.HOST }),
  HKID: field("HKID", 2, { id: TD_FIELD.HKID, access: ACCESS.HOST }),
  NUM_TDCX: field("NUM_TDCX", 4, { id: TD_FIELD.NUM_TDCX, access: ACCESS.HOST }),
  LIFECYCLE_STATE: field("LIFECYCLE_STATE", 4, { id: TD_FIELD.LIFECYCLE_STATE, access: ACCESS.HOST }),
  CHLDCNT: field("CHLDCNT", 8, { id: TD_FIELD.CHLDCNT, access: ACCESS.HOST }),
  PKG_CONFIG_BITMAP: field("PKG_CONFIG_BITMAP", 8, { id: TD_FIELD.PKG_CONFIG_BITMAP, access: ACCESS.HOST }),
  TDCX_PA: field("TDCX_PA", 8, { count: MAX_TDCX, id: TD_FIELD.TDCX_PA, access: ACCESS.HOST }),
  TD_UUID: field("TD_UUID", 8, { count: 4, id: TD_FIELD.TD_UUID, access: ACCESS.HOST_GUEST }),
} as const;
