import {
  ACCESS,
  ADDRESS_SPACE,
  FADT,
  FADT_FLAG,
  GENERIC_ADDRESS,
  IAPC_BOOT_ARCH,
  PM1_CONTROL,
  PM1_EVENT,
} from "../../arch/acpi.js";
import { CMOS_CENTURY, PM1A_CONTROL, PM1A_EVENT, RESET_CONTROL, SCI } from "../ports.js";
import { makeTable } from "./table.js";

/** More than the latency of any such state: there is no C2 and no C3. */
const NO_C2 = 101;
const NO_C3 = 1001;

/**
 * Classic power management, as small as it gets: PM1a event and control registers, no PM timer, no buttons, no general events.
 * Not hardware-reduced: of such a machine Linux expects that EFI resets it.
 */
export function makeFadt(facsAddress: number, dsdtAddress: number): Uint8Array {
  return makeTable("FACP", FADT.REVISION, FADT.SIZE, (view) => {
    view.setUint32(FADT.FIRMWARE_CTRL, facsAddress, true);
    view.setUint32(FADT.DSDT, dsdtAddress, true);
    view.setUint16(FADT.SCI_INT, SCI.ISA_IRQ, true);
    view.setUint32(FADT.PM1A_EVT_BLK, PM1A_EVENT, true);
    view.setUint32(FADT.PM1A_CNT_BLK, PM1A_CONTROL, true);
    view.setUint8(FADT.PM1_EVT_LEN, PM1_EVENT.LENGTH);
    view.setUint8(FADT.PM1_CNT_LEN, PM1_CONTROL.LENGTH);
    view.setUint16(FADT.P_LVL2_LAT, NO_C2, true);
    view.setUint16(FADT.P_LVL3_LAT, NO_C3, true);
    view.setUint8(FADT.CENTURY, CMOS_CENTURY);
    view.setUint16(FADT.IAPC_BOOT_ARCH, IAPC_BOOT_ARCH.LEGACY_DEVICES | IAPC_BOOT_ARCH.VGA_NOT_PRESENT, true);
    const flags =
      FADT_FLAG.WBINVD |
      FADT_FLAG.PROC_C1 |
      FADT_FLAG.PWR_BUTTON |
      FADT_FLAG.SLP_BUTTON |
      FADT_FLAG.FIX_RTC |
      FADT_FLAG.RESET_REG_SUP |
      FADT_FLAG.HEADLESS;
    view.setUint32(FADT.FLAGS, flags, true);
    putIoPort(view, FADT.RESET_REG, RESET_CONTROL.PORT, 1, ACCESS.BYTE);
    view.setUint8(FADT.RESET_VALUE, RESET_CONTROL.SYSTEM_RESET | RESET_CONTROL.RESET_CPU);
    view.setBigUint64(FADT.X_DSDT, BigInt(dsdtAddress), true);
    putIoPort(view, FADT.X_PM1A_EVT_BLK, PM1A_EVENT, PM1_EVENT.LENGTH, ACCESS.WORD);
    putIoPort(view, FADT.X_PM1A_CNT_BLK, PM1A_CONTROL, PM1_CONTROL.LENGTH, ACCESS.WORD);
  });
}

/** Generic address of a register block of `length` bytes behind a port. */
function putIoPort(view: DataView, offset: number, port: number, length: number, access: number): void {
  view.setUint8(offset + GENERIC_ADDRESS.SPACE_ID, ADDRESS_SPACE.IO);
  view.setUint8(offset + GENERIC_ADDRESS.BIT_WIDTH, 8 * length);
  view.setUint8(offset + GENERIC_ADDRESS.ACCESS_SIZE, access);
  view.setBigUint64(offset + GENERIC_ADDRESS.ADDRESS, BigInt(port), true);
}
