import { ENTRY_64 } from "../../arch/boot-protocol.js";
import { makeAcpiTables } from "../acpi/tables.js";
import { alignUp } from "../bytes.js";
import { identityMap } from "../shim/identity-map.js";
import { PAGE_SIZE, SHIM } from "../shim/layout.js";
import { encodeParameters, type GpaRange } from "../shim/parameters.js";
import { assembleShim } from "../shim/shim.js";
import type { MeasuredRegion, TdImage } from "../td-image.js";
import { VmmError } from "../vmm-error.js";
import { makeBootParams } from "./boot-params.js";
import { parseBzImage } from "./bzimage.js";
import { BOOT_PARAMS_GPA, CMDLINE_GPA, layOutMemory } from "./memory-map.js";

export interface DirectBootConfig {
  /** A bzImage. */
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array | undefined;
  readonly cmdline: string;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly vcpus: number;
}

/** A TD in which our shim starts a kernel: everything that the kernel is given is added and measured. */
export function directBoot({ kernel: file, initrd, cmdline, memory, vcpus }: DirectBootConfig): TdImage {
  const kernel = parseBzImage(file);
  const commandLine = new TextEncoder().encode(cmdline);
  if (commandLine.length > Math.min(kernel.cmdlineSize, PAGE_SIZE - 1)) {
    throw new VmmError(
      "CMDLINE_TOO_LONG",
      `the command line has ${commandLine.length} bytes, the kernel takes ${kernel.cmdlineSize}`,
      "shorten it",
    );
  }
  const initrdSize = initrd?.length ?? 0;
  const map = layOutMemory(memory, kernel, initrdSize);
  const mailbox = vcpus > 1 ? map.mailbox : undefined;
  const ram: MeasuredRegion[] = [
    { name: "boot_params", gpa: BOOT_PARAMS_GPA, bytes: makeBootParams(kernel, map, initrdSize) },
    { name: "command line", gpa: CMDLINE_GPA, bytes: zeroTerminated(commandLine) },
    { name: "kernel", gpa: map.kernel, bytes: kernel.code },
    ...(initrd && map.initrd !== undefined ? [{ name: "initramfs", gpa: map.initrd, bytes: initrd }] : []),
    { name: "ACPI tables", gpa: map.acpi, bytes: makeAcpiTables(map.acpi, { vcpus, mailbox }) },
    ...(mailbox === undefined ? [] : [{ name: "mailbox", gpa: mailbox, bytes: new Uint8Array(PAGE_SIZE) }]),
  ];
  const parameters = encodeParameters({
    kernelEntry: map.kernel + ENTRY_64,
    bootParams: BOOT_PARAMS_GPA,
    mailbox: mailbox ?? 0,
    accept: gaps(ram, memory),
  });
  const shim: MeasuredRegion[] = [
    { name: "page tables", gpa: SHIM.PAGE_TABLES, bytes: identityMap(SHIM.PAGE_TABLES) },
    { name: "stack", gpa: SHIM.STACK, bytes: new Uint8Array(PAGE_SIZE) },
    { name: "parameters", gpa: SHIM.PARAMETERS, bytes: parameters },
    { name: "shim", gpa: SHIM.CODE, bytes: assembleShim() },
  ];
  const span = { gpa: 0, size: memory };
  return {
    regions: [...shim, ...ram],
    memory: [span, { gpa: SHIM.BASE, size: SHIM.END - SHIM.BASE }],
    preFault: [span],
  };
}

function zeroTerminated(bytes: Uint8Array): Uint8Array {
  const terminated = new Uint8Array(bytes.length + 1);
  terminated.set(bytes);
  return terminated;
}

/** What of [0, end) no region covers, in whole pages. */
export function gaps(regions: readonly MeasuredRegion[], end: number): GpaRange[] {
  const sorted = [...regions].sort((a, b) => a.gpa - b.gpa);
  const found: GpaRange[] = [];
  let start = 0;
  for (const { gpa, bytes } of sorted) {
    if (gpa > start) found.push({ start, end: gpa });
    start = gpa + alignUp(bytes.length, PAGE_SIZE);
  }
  if (start < end) found.push({ start, end });
  return found;
}
