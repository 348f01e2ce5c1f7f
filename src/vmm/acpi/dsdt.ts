import { SLEEP_TYPE_S5, TABLE_HEADER } from "../../arch/acpi.js";
import { concat } from "../bytes.js";
import { CMOS, COM1 } from "../ports.js";
import { device, eisaId, integer, ioPorts, irq, name, packageOf, resources, scope } from "./aml.js";
import { makeTable } from "./table.js";

const DSDT_REVISION = 2;

/** What is not discoverable: the serial port, the clock, and how to power off. */
export function makeDsdt(): Uint8Array {
  const body = concat(
    name("\\_S5", packageOf(integer(SLEEP_TYPE_S5), integer(0), integer(0), integer(0))),
    scope(
      "\\_SB",
      device(
        "COM1",
        name("_HID", eisaId("PNP0501")),
        name("_UID", integer(1)),
        name("_CRS", resources(ioPorts(COM1.BASE, COM1.LENGTH), irq(COM1.GSI))),
      ),
      // Without an interrupt: the clock has no alarm.
      device("RTC", name("_HID", eisaId("PNP0B00")), name("_CRS", resources(ioPorts(CMOS.BASE, CMOS.LENGTH)))),
    ),
  );
  return makeTable("DSDT", DSDT_REVISION, TABLE_HEADER.SIZE + body.length, (_view, bytes) => {
    bytes.set(body, TABLE_HEADER.SIZE);
  });
}
