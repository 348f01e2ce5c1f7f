import { spawnSync } from "node:child_process";
import { DEFAULT_SETUP_SECTS, SECTOR_SIZE, SETUP_HEADER } from "../../src/arch/boot-protocol.js";

const ZSTD_MAGIC = 0xfd2fb528;

/** A piece of a program's code. */
export interface Text {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** The `.text` section of the kernel in a bzImage, or why it cannot be had here. */
export function kernelText(image: Uint8Array): Text | string {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const start =
    ((view.getUint8(SETUP_HEADER.SETUP_SECTS) || DEFAULT_SETUP_SECTS) + 1) * SECTOR_SIZE +
    view.getUint32(SETUP_HEADER.PAYLOAD_OFFSET, true);
  // The last four bytes of the payload are the size that it unpacks to.
  const packed = image.subarray(start, start + view.getUint32(SETUP_HEADER.PAYLOAD_LENGTH, true) - 4);
  if (view.getUint32(start, true) !== ZSTD_MAGIC) return "the kernel is not packed with zstd";
  const { stdout, error, status } = spawnSync("zstd", ["-dc"], { input: packed, maxBuffer: 2 ** 28 });
  if (error || status !== 0) return "needs the program zstd";
  return textSection(stdout) ?? "the kernel has no .text";
}

/** The section named .text of a 64-bit ELF file. */
function textSection(elf: Uint8Array): Text | undefined {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const table = Number(view.getBigUint64(0x28, true));
  const [entrySize, count, names] = [
    view.getUint16(0x3a, true),
    view.getUint16(0x3c, true),
    view.getUint16(0x3e, true),
  ];
  const header = (n: number): number => table + n * entrySize;
  const strings = Number(view.getBigUint64(header(names) + 0x18, true));
  for (let n = 0; n < count; n++) {
    const name = strings + view.getUint32(header(n), true);
    if (Buffer.from(elf.subarray(name, name + 6)).toString("latin1") !== ".text\0") continue;
    const offset = Number(view.getBigUint64(header(n) + 0x18, true));
    const size = Number(view.getBigUint64(header(n) + 0x20, true));
    return { address: view.getBigUint64(header(n) + 0x10, true), bytes: elf.slice(offset, offset + size) };
  }
  return undefined;
}
