import { describe, expect, it } from "vitest";
import { BOOT_PARAMS, SETUP_HEADER } from "../../arch/boot-protocol.js";
import { PAGE_SIZE, SHIM } from "../shim/layout.js";
import { PARAMETER } from "../shim/parameters.js";
import type { TdImage } from "../td-image.js";
import { VmmError, type VmmErrorCode } from "../vmm-error.js";
import { type DirectBootConfig, directBoot, gaps } from "./direct-boot.js";
import { fakeKernel } from "./testing.js";

const MIB = 1 << 20;

const boot = (parts: Partial<DirectBootConfig> = {}): TdImage =>
  directBoot({
    kernel: fakeKernel(),
    initrd: new Uint8Array(3 * PAGE_SIZE + 1),
    cmdline: "console=ttyS0",
    memory: 128 * MIB,
    vcpus: 1,
    ...parts,
  });

function refusal(parts: Partial<DirectBootConfig>): VmmErrorCode | undefined {
  try {
    boot(parts);
    return undefined;
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    expect(error.message).not.toBe("");
    expect(error.hint).not.toBe("");
    return error.code;
  }
}

describe("a guest that cannot be booted", () => {
  it.each<[string, VmmErrorCode, Partial<DirectBootConfig>]>([
    ["a short file", "KERNEL_NOT_BZIMAGE", { kernel: new Uint8Array(100) }],
    ["zeros", "KERNEL_NOT_BZIMAGE", { kernel: new Uint8Array(100_000) }],
    ["a boot sector without a kernel", "KERNEL_NOT_BZIMAGE", { kernel: fakeKernel({ magic: 0 }) }],
    ["an old boot protocol", "KERNEL_TOO_OLD", { kernel: fakeKernel({ version: 0x020b }) }],
    ["a 32-bit kernel", "KERNEL_NO_64BIT_ENTRY", { kernel: fakeKernel({ xloadflags: 0 }) }],
    ["half a file", "KERNEL_TRUNCATED", { kernel: fakeKernel({ missing: 1 }) }],
    ["no TDX in the stub", "KERNEL_NO_TDX", { kernel: fakeKernel({ stub: "" }) }],
    ["TDX only in the packed payload", "KERNEL_NO_TDX", { kernel: fakeKernel({ stub: "", payload: "IntelTDX" }) }],
    ["too little memory for anybody", "MEMORY_OUT_OF_RANGE", { memory: 64 * MIB }],
    ["too much memory", "MEMORY_OUT_OF_RANGE", { memory: 3073 * MIB }],
    ["a crooked size", "MEMORY_OUT_OF_RANGE", { memory: 128 * MIB + 4096 }],
    ["too little memory for this kernel", "MEMORY_TOO_SMALL", { kernel: fakeKernel({ initSize: 120 * MIB }) }],
    ["an initramfs that does not fit", "INITRD_TOO_LARGE", { initrd: new Uint8Array(60 * MIB) }],
    ["a command line that does not fit", "CMDLINE_TOO_LONG", { cmdline: "x".repeat(2048) }],
  ])("%s", (_what, code, parts) => {
    expect(refusal(parts)).toBe(code);
  });
});

describe("the image", () => {
  const image = boot();
  const region = (name: string) => {
    const found = image.regions.find((candidate) => candidate.name === name);
    if (!found) throw new Error(`no region ${name}`);
    return { ...found, view: new DataView(found.bytes.buffer, found.bytes.byteOffset) };
  };

  it("has pages that do not overlap and lie in its memory", () => {
    const sorted = [...image.regions].sort((a, b) => a.gpa - b.gpa);
    let end = 0;
    for (const { gpa, bytes } of sorted) {
      expect(gpa % PAGE_SIZE).toBe(0);
      expect(gpa).toBeGreaterThanOrEqual(end);
      end = gpa + bytes.length;
      expect(image.memory.some((span) => gpa >= span.gpa && end <= span.gpa + span.size)).toBe(true);
    }
  });

  it("tells the kernel where everything is", () => {
    const { view, gpa } = region("boot_params");
    expect(gpa).toBe(0x7000);
    expect(view.getUint32(SETUP_HEADER.RAMDISK_IMAGE, true)).toBe(region("initramfs").gpa);
    expect(view.getUint32(SETUP_HEADER.RAMDISK_SIZE, true)).toBe(3 * PAGE_SIZE + 1);
    expect(view.getUint32(SETUP_HEADER.CMD_LINE_PTR, true)).toBe(region("command line").gpa);
    expect(Number(view.getBigUint64(BOOT_PARAMS.ACPI_RSDP_ADDR, true))).toBe(region("ACPI tables").gpa);
    expect(view.getUint8(SETUP_HEADER.TYPE_OF_LOADER)).toBe(0xff);
    expect(String.fromCharCode(...region("command line").bytes)).toBe("console=ttyS0\0");
  });

  it("hands out RAM, ACPI data and NVS in the e820 map", () => {
    const { view } = region("boot_params");
    const entries = Array.from({ length: view.getUint8(BOOT_PARAMS.E820_ENTRIES) }, (_, index) => {
      const at = BOOT_PARAMS.E820_TABLE + 20 * index;
      return [
        Number(view.getBigUint64(at, true)),
        Number(view.getBigUint64(at + 8, true)),
        view.getUint32(at + 16, true),
      ];
    });
    expect(entries).toEqual([
      [0, 0xa_0000, 1],
      [0x10_0000, 0x7fe_0000 - 0x10_0000, 1],
      [0x7fe_0000, 0x1_0000, 3],
      [0x7ff_0000, 0x1_0000, 4],
    ]);
  });

  it("lets the shim accept what was not added, all of RAM together", () => {
    const { view } = region("parameters");
    const word = (offset: number) => Number(view.getBigUint64(offset, true));
    expect(word(PARAMETER.KERNEL_ENTRY)).toBe(0x100_0200);
    expect(word(PARAMETER.MAILBOX)).toBe(0);
    const accepted = Array.from({ length: word(PARAMETER.RANGE_COUNT) }, (_, index) => {
      const at = PARAMETER.RANGES + 16 * index;
      return word(at + 8) - word(at);
    }).reduce((sum, size) => sum + size, 0);
    const added = image.regions
      .filter(({ gpa }) => gpa < SHIM.BASE)
      .reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / PAGE_SIZE) * PAGE_SIZE, 0);
    expect(accepted + added).toBe(128 * MIB);
  });

  it("has a mailbox only for more than one vCPU", () => {
    expect(image.regions.some(({ name }) => name === "mailbox")).toBe(false);
    expect(boot({ vcpus: 2 }).regions.some(({ name, gpa }) => name === "mailbox" && gpa === 0x7ff_0000)).toBe(true);
  });
});

describe("gaps", () => {
  it("are what no region covers", () => {
    const bytes = new Uint8Array(PAGE_SIZE + 1);
    const regions = [
      { name: "b", gpa: 0x5000, bytes },
      { name: "a", gpa: 0x1000, bytes },
    ];
    expect(gaps(regions, 0x7000)).toEqual([
      { start: 0, end: 0x1000 },
      { start: 0x3000, end: 0x5000 },
    ]);
    expect(gaps([], 0x1000)).toEqual([{ start: 0, end: 0x1000 }]);
  });
});
