import { BOOT_FLAG, HEADER_MAGIC, SETUP_HEADER, XLF_KERNEL_64 } from "../../arch/boot-protocol.js";
import { ascii } from "../bytes.js";

/** Fields of a made-up bzImage that a test wants to be different. */
export interface FakeKernelParts {
  readonly version?: number;
  readonly xloadflags?: number;
  readonly magic?: number;
  readonly bootFlag?: number;
  /** Text in the stub, before the payload. */
  readonly stub?: string;
  /** Text in the packed payload. */
  readonly payload?: string;
  readonly initSize?: number;
  readonly initrdAddrMax?: number;
  /** Bytes that are missing at the end of the file. */
  readonly missing?: number;
}

const SETUP_SECTS = 1;
const CODE_START = (SETUP_SECTS + 1) * 512;
const CODE_SIZE = 0x2000;
const PAYLOAD_OFFSET = 0x1000;

/** A file with the header of a bzImage and nothing that could run. */
export function fakeKernel(parts: FakeKernelParts = {}): Uint8Array {
  const file = new Uint8Array(CODE_START + CODE_SIZE);
  const view = new DataView(file.buffer);
  view.setUint8(SETUP_HEADER.SETUP_SECTS, SETUP_SECTS);
  view.setUint32(SETUP_HEADER.SYSSIZE, CODE_SIZE / 16, true);
  view.setUint16(SETUP_HEADER.BOOT_FLAG, parts.bootFlag ?? BOOT_FLAG, true);
  view.setUint8(SETUP_HEADER.HEADER_LENGTH, 0x6a);
  view.setUint32(SETUP_HEADER.HEADER_MAGIC, parts.magic ?? HEADER_MAGIC, true);
  view.setUint16(SETUP_HEADER.VERSION, parts.version ?? 0x020f, true);
  view.setUint32(SETUP_HEADER.INITRD_ADDR_MAX, parts.initrdAddrMax ?? 0x7fff_ffff, true);
  view.setUint16(SETUP_HEADER.XLOADFLAGS, parts.xloadflags ?? XLF_KERNEL_64, true);
  view.setUint32(SETUP_HEADER.CMDLINE_SIZE, 2047, true);
  view.setUint32(SETUP_HEADER.PAYLOAD_OFFSET, PAYLOAD_OFFSET, true);
  view.setUint32(SETUP_HEADER.PAYLOAD_LENGTH, 0x800, true);
  view.setBigUint64(SETUP_HEADER.PREF_ADDRESS, 0x100_0000n, true);
  view.setUint32(SETUP_HEADER.INIT_SIZE, parts.initSize ?? 0x380_0000, true);
  file.set(ascii(parts.stub ?? "IntelTDX    "), CODE_START + 0x500);
  file.set(ascii(parts.payload ?? ""), CODE_START + PAYLOAD_OFFSET + 0x10);
  return file.subarray(0, file.length - (parts.missing ?? 0));
}
