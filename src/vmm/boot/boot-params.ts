import { BOOT_PARAMS, LOADER_UNDEFINED, SETUP_HEADER } from "../../arch/boot-protocol.js";
import type { BzImage } from "./bzimage.js";
import { CMDLINE_GPA, type MemoryMap } from "./memory-map.js";

/** The zero page that the kernel's 64-bit entry takes in RSI. */
export function makeBootParams(kernel: BzImage, map: MemoryMap, initrdSize: number): Uint8Array {
  const bytes = new Uint8Array(BOOT_PARAMS.SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set(kernel.setupHeader, BOOT_PARAMS.SETUP_HEADER);
  view.setUint8(SETUP_HEADER.TYPE_OF_LOADER, LOADER_UNDEFINED);
  view.setUint32(SETUP_HEADER.CODE32_START, map.kernel, true);
  view.setUint32(SETUP_HEADER.CMD_LINE_PTR, CMDLINE_GPA, true);
  // All addresses lie below 4 GiB: the fields for their upper halves stay zero.
  view.setUint32(SETUP_HEADER.RAMDISK_IMAGE, map.initrd ?? 0, true);
  view.setUint32(SETUP_HEADER.RAMDISK_SIZE, initrdSize, true);
  view.setBigUint64(BOOT_PARAMS.ACPI_RSDP_ADDR, BigInt(map.acpi), true);
  view.setUint8(BOOT_PARAMS.E820_ENTRIES, map.e820.length);
  map.e820.forEach(({ address, size, type }, index) => {
    const offset = BOOT_PARAMS.E820_TABLE + index * BOOT_PARAMS.E820_ENTRY_SIZE;
    view.setBigUint64(offset, BigInt(address), true);
    view.setBigUint64(offset + 8, BigInt(size), true);
    view.setUint32(offset + 16, type, true);
  });
  return bytes;
}
