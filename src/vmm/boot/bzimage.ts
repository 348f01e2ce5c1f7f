import {
  BOOT_FLAG,
  DEFAULT_SETUP_SECTS,
  HEADER_MAGIC,
  MIN_VERSION,
  SECTOR_SIZE,
  SETUP_HEADER,
  XLF_KERNEL_64,
} from "../../arch/boot-protocol.js";
import { ascii } from "../bytes.js";
import { VmmError } from "../vmm-error.js";

/** What the loader needs of a bzImage. */
export interface BzImage {
  /** setup_header, from `SETUP_HEADER.SETUP_SECTS` on. */
  readonly setupHeader: Uint8Array;
  /** Protected-mode code, to be loaded at `prefAddress`. */
  readonly code: Uint8Array;
  readonly prefAddress: number;
  readonly initSize: number;
  readonly cmdlineSize: number;
  /** First address that an initrd may not reach. */
  readonly initrdLimit: number;
}

/** The decompressor's TDX code compares CPUID leaf 0x21 with this. */
const TDX_SIGNATURE = ascii("IntelTDX");

const HINT = "give the bzImage of a Linux kernel (Debian: /boot/vmlinuz-* of package linux-image-*-cloud-amd64)";

/** Reads the header and checks that the kernel can be started as a TD. */
export function parseBzImage(file: Uint8Array): BzImage {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < SETUP_HEADER.INIT_SIZE + 4) throw notBzImage(`the file has only ${file.length} bytes`);
  if (view.getUint16(SETUP_HEADER.BOOT_FLAG, true) !== BOOT_FLAG) throw notBzImage("the boot flag is missing");
  if (view.getUint32(SETUP_HEADER.HEADER_MAGIC, true) !== HEADER_MAGIC) throw notBzImage("the setup header is missing");
  const version = view.getUint16(SETUP_HEADER.VERSION, true);
  if (version < MIN_VERSION) {
    const text = (value: number) => `${value >> 8}.${value & 0xff}`;
    throw new VmmError(
      "KERNEL_TOO_OLD",
      `the kernel speaks boot protocol ${text(version)}, needed is ${text(MIN_VERSION)} or later`,
      "use a kernel of 2013 or later; TDX guest support came with Linux 5.19",
    );
  }
  if (!(view.getUint16(SETUP_HEADER.XLOADFLAGS, true) & XLF_KERNEL_64)) {
    throw new VmmError("KERNEL_NO_64BIT_ENTRY", "the kernel has no 64-bit entry point", "use an x86-64 kernel");
  }
  const sectors = view.getUint8(SETUP_HEADER.SETUP_SECTS) || DEFAULT_SETUP_SECTS;
  const codeStart = (sectors + 1) * SECTOR_SIZE;
  const codeSize = 16 * view.getUint32(SETUP_HEADER.SYSSIZE, true);
  if (codeStart + codeSize > file.length) {
    throw new VmmError(
      "KERNEL_TRUNCATED",
      `the kernel's file has ${file.length} bytes, its header says ${codeStart + codeSize}`,
      "fetch or copy the file again",
    );
  }
  const code = file.subarray(codeStart, codeStart + codeSize);
  const headerEnd = SETUP_HEADER.HEADER_MAGIC + view.getUint8(SETUP_HEADER.HEADER_LENGTH);
  const payloadOffset = view.getUint32(SETUP_HEADER.PAYLOAD_OFFSET, true);
  const payloadLength = view.getUint32(SETUP_HEADER.PAYLOAD_LENGTH, true);
  if (!knowsTdx(code, payloadOffset, payloadLength)) {
    throw new VmmError(
      "KERNEL_NO_TDX",
      "the kernel was built without TDX guest support (CONFIG_INTEL_TDX_GUEST): it would die in silence",
      "use a kernel that has it, for example Debian's linux-image-cloud-amd64 of trixie or later",
    );
  }
  return {
    setupHeader: file.slice(SETUP_HEADER.SETUP_SECTS, headerEnd),
    code,
    prefAddress: Number(view.getBigUint64(SETUP_HEADER.PREF_ADDRESS, true)),
    initSize: view.getUint32(SETUP_HEADER.INIT_SIZE, true),
    cmdlineSize: view.getUint32(SETUP_HEADER.CMDLINE_SIZE, true),
    initrdLimit: view.getUint32(SETUP_HEADER.INITRD_ADDR_MAX, true) + 1,
  };
}

function notBzImage(why: string): VmmError {
  return new VmmError("KERNEL_NOT_BZIMAGE", `the kernel's file is not a bzImage: ${why}`, HINT);
}

/** True if the signature occurs before or behind the packed kernel. */
function knowsTdx(code: Uint8Array, payloadOffset: number, payloadLength: number): boolean {
  return (
    contains(code.subarray(0, payloadOffset), TDX_SIGNATURE) ||
    contains(code.subarray(payloadOffset + payloadLength), TDX_SIGNATURE)
  );
}

function contains(bytes: Uint8Array, wanted: Uint8Array): boolean {
  const first = wanted[0] as number;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return true;
  }
  return false;
}
