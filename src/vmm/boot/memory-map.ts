import { E820_TYPE } from "../../arch/boot-protocol.js";
import { alignDown, alignUp } from "../bytes.js";
import { PAGE_SIZE } from "../shim/layout.js";
import { VmmError } from "../vmm-error.js";
import type { BzImage } from "./bzimage.js";

export const MIN_MEMORY = 128 << 20;
export const MAX_MEMORY = 3 * 2 ** 30;
/** RAM comes in these steps. */
const MEMORY_STEP = 1 << 20;

/** Fixed places in low memory. */
export const BOOT_PARAMS_GPA = 0x7000;
export const CMDLINE_GPA = 0x8000;

/** The ROM area of a PC: memory like any other, but not for the kernel to use. */
const LOW_END = 0xa_0000;
const HIGH_START = 0x10_0000;

/** At the end of RAM: ACPI tables, then NVS with the mailbox. */
const ACPI_SIZE = 0x1_0000;
const NVS_SIZE = 0x1_0000;

export interface E820Entry {
  readonly address: number;
  readonly size: number;
  readonly type: number;
}

/** Where everything lies in the TD's RAM. */
export interface MemoryMap {
  readonly kernel: number;
  /** Undefined without an initramfs. */
  readonly initrd: number | undefined;
  readonly acpi: number;
  /** GPA of the wakeup mailbox. */
  readonly mailbox: number;
  readonly e820: readonly E820Entry[];
}

/** Lays out RAM for a kernel and an initramfs of `initrdSize` bytes (0: none). */
export function layOutMemory(ramSize: number, kernel: BzImage, initrdSize: number): MemoryMap {
  if (ramSize < MIN_MEMORY || ramSize > MAX_MEMORY || ramSize % MEMORY_STEP !== 0) {
    throw new VmmError(
      "MEMORY_OUT_OF_RANGE",
      `${ramSize} bytes of memory: not between ${mib(MIN_MEMORY)} and ${mib(MAX_MEMORY)} in whole MiB`,
      "choose, for example, --memory 512M",
    );
  }
  const nvs = ramSize - NVS_SIZE;
  const acpi = nvs - ACPI_SIZE;
  const kernelEnd = kernel.prefAddress + kernel.initSize;
  if (kernelEnd > acpi) {
    throw new VmmError(
      "MEMORY_TOO_SMALL",
      `the kernel unpacks itself up to ${mib(kernelEnd)}, beyond ${mib(ramSize)} of memory`,
      `give the guest at least ${mib(alignUp(kernelEnd + ACPI_SIZE + NVS_SIZE, 16 << 20))}`,
    );
  }
  return {
    kernel: kernel.prefAddress,
    initrd: placeInitrd(kernel, kernelEnd, acpi, initrdSize),
    acpi,
    mailbox: nvs,
    e820: [
      { address: 0, size: LOW_END, type: E820_TYPE.RAM },
      { address: HIGH_START, size: acpi - HIGH_START, type: E820_TYPE.RAM },
      { address: acpi, size: ACPI_SIZE, type: E820_TYPE.ACPI },
      { address: nvs, size: NVS_SIZE, type: E820_TYPE.NVS },
    ],
  };
}

/** As high as possible, as the kernel's own loaders do. */
function placeInitrd(kernel: BzImage, kernelEnd: number, ramEnd: number, size: number): number | undefined {
  if (size === 0) return undefined;
  const end = Math.min(ramEnd, kernel.initrdLimit);
  const start = alignDown(end - size, PAGE_SIZE);
  if (start < kernelEnd) {
    throw new VmmError(
      "INITRD_TOO_LARGE",
      `an initramfs of ${mib(size)} does not fit between the kernel's end at ${mib(kernelEnd)} and ${mib(end)}`,
      "give the guest more memory or a smaller initramfs",
    );
  }
  return start;
}

const mib = (bytes: number): string => `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;
