import { ACCESS_BYTE, ADDRESS_SPACE, FADT, FADT_FLAG, GENERIC_ADDRESS, IAPC_BOOT_ARCH } from "../../arch/acpi.js";
import { ACPI_SLEEP_CONTROL, ACPI_SLEEP_STATUS, CMOS_CENTURY, RESET_CONTROL } from "../ports.js";
import { makeTable } from "./table.js";

/**
 * A hardware-reduced machine: no PM1 blocks, no PM timer, no SCI, and no legacy timer or interrupt controller that the
 * kernel would look for. It powers off by the sleep control register.
 */
export function makeFadt(dsdtAddress: number): Uint8Array {
  return makeTable("FACP", FADT.REVISION, FADT.SIZE, (view) => {
    view.setUint32(FADT.DSDT, dsdtAddress, true);
    view.setUint8(FADT.CENTURY, CMOS_CENTURY);
    view.setUint16(FADT.IAPC_BOOT_ARCH, IAPC_BOOT_ARCH.LEGACY_DEVICES | IAPC_BOOT_ARCH.VGA_NOT_PRESENT, true);
    const flags =
      FADT_FLAG.WBINVD |
      FADT_FLAG.PWR_BUTTON |
      FADT_FLAG.SLP_BUTTON |
      FADT_FLAG.FIX_RTC |
      FADT_FLAG.RESET_REG_SUP |
      FADT_FLAG.HEADLESS |
      FADT_FLAG.HW_REDUCED_ACPI;
    view.setUint32(FADT.FLAGS, flags, true);
    putIoPort(view, FADT.RESET_REG, RESET_CONTROL.PORT);
    view.setUint8(FADT.RESET_VALUE, RESET_CONTROL.SYSTEM_RESET | RESET_CONTROL.RESET_CPU);
    view.setBigUint64(FADT.X_DSDT, BigInt(dsdtAddress), true);
    putIoPort(view, FADT.SLEEP_CONTROL_REG, ACPI_SLEEP_CONTROL);
    putIoPort(view, FADT.SLEEP_STATUS_REG, ACPI_SLEEP_STATUS);
  });
}

/** Generic address of a byte-wide port. */
function putIoPort(view: DataView, offset: number, port: number): void {
  view.setUint8(offset + GENERIC_ADDRESS.SPACE_ID, ADDRESS_SPACE.IO);
  view.setUint8(offset + GENERIC_ADDRESS.BIT_WIDTH, 8);
  view.setUint8(offset + GENERIC_ADDRESS.ACCESS_SIZE, ACCESS_BYTE);
  view.setBigUint64(offset + GENERIC_ADDRESS.ADDRESS, BigInt(port), true);
}
