import { MADT, TABLE_HEADER } from "../../arch/acpi.js";
import { concat } from "../bytes.js";
import { IOAPIC, LOCAL_APIC_BASE, SCI } from "../ports.js";
import { makeTable } from "./table.js";

export interface MadtContents {
  readonly vcpus: number;
  /** GPA of the wakeup mailbox, which more than one vCPU need. */
  readonly mailbox: number | undefined;
}

/** Local APICs with APIC id = vCPU index, the IOAPIC, the SCI, and how to wake further vCPUs. No 8259 (PCAT_COMPAT is 0). */
export function makeMadt({ vcpus, mailbox }: MadtContents): Uint8Array {
  const body = concat(
    ...Array.from({ length: vcpus }, (_, index) => localApic(index)),
    ioApic(),
    sciOverride(),
    ...(mailbox === undefined ? [] : [wakeup(mailbox)]),
  );
  return makeTable("APIC", MADT.REVISION, TABLE_HEADER.SIZE + 8 + body.length, (view, bytes) => {
    view.setUint32(TABLE_HEADER.SIZE, LOCAL_APIC_BASE, true);
    bytes.set(body, TABLE_HEADER.SIZE + 8);
  });
}

function localApic(index: number): Uint8Array {
  const { TYPE, LENGTH, ENABLED } = MADT.LOCAL_APIC;
  return Uint8Array.of(TYPE, LENGTH, index, index, ENABLED, 0, 0, 0);
}

function ioApic(): Uint8Array {
  const bytes = new Uint8Array(MADT.IO_APIC.LENGTH);
  bytes.set([MADT.IO_APIC.TYPE, MADT.IO_APIC.LENGTH, IOAPIC.ID]);
  new DataView(bytes.buffer).setUint32(4, IOAPIC.BASE, true);
  return bytes;
}

/** The SCI is level-triggered and active high; ISA interrupts are edge-triggered otherwise. */
function sciOverride(): Uint8Array {
  const { TYPE, LENGTH, LEVEL_ACTIVE_HIGH } = MADT.OVERRIDE;
  const bytes = new Uint8Array(LENGTH);
  bytes.set([TYPE, LENGTH, 0, SCI.ISA_IRQ, SCI.GSI]);
  new DataView(bytes.buffer).setUint16(8, LEVEL_ACTIVE_HIGH, true);
  return bytes;
}

function wakeup(mailbox: number): Uint8Array {
  const bytes = new Uint8Array(MADT.WAKEUP.LENGTH);
  bytes.set([MADT.WAKEUP.TYPE, MADT.WAKEUP.LENGTH]);
  new DataView(bytes.buffer).setBigUint64(8, BigInt(mailbox), true);
  return bytes;
}
