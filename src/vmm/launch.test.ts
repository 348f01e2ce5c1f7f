import { describe, expect, it } from "vitest";
import { TdMachine } from "./machine.js";
import { PAGE_SIZE } from "./shim/layout.js";
import { powerOn } from "./system.js";
import type { TdImage } from "./td-image.js";
import { VmmError } from "./vmm-error.js";

const MIB = 1 << 20;
const system = powerOn({ guestMemory: MIB, imageBytes: MIB });

const image = (parts: Partial<TdImage> = {}): TdImage => ({
  regions: [{ name: "code", gpa: 0, bytes: new Uint8Array(PAGE_SIZE) }],
  memory: [{ gpa: 0, size: MIB }],
  preFault: [],
  ...parts,
});

const launch = (vcpus: number, parts: Partial<TdImage> = {}) =>
  new TdMachine(system, { image: image(parts), vcpus, rtc: 0 });

function refusal(action: () => unknown): VmmError {
  try {
    action();
  } catch (error) {
    if (error instanceof VmmError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a launch that fails", () => {
  it.each([0, 2, 1.5])("with %d vCPUs on one logical processor says so", (vcpus) => {
    expect(refusal(() => launch(vcpus)).code).toBe("VCPUS_OUT_OF_RANGE");
  });

  it("names the ioctl and the error", () => {
    const outside = { regions: [{ name: "code", gpa: 2 * MIB, bytes: new Uint8Array(1) }] };
    const { code, message } = refusal(() => launch(1, outside));
    expect(code).toBe("KVM_FAILED");
    expect(message).toBe("KVM_TDX_INIT_MEM_REGION failed: EINVAL");
  });

  it("gives back what it had taken", () => {
    launch(1).teardown();
    const before = system.kernel.pages.counters.free;
    refusal(() => launch(1, { regions: [{ name: "code", gpa: 2 * MIB, bytes: new Uint8Array(PAGE_SIZE) }] }));
    refusal(() =>
      launch(1, {
        memory: [
          { gpa: 0, size: MIB },
          { gpa: 0, size: MIB },
        ],
      }),
    );
    refusal(() => launch(1, { preFault: [{ gpa: 4 * MIB, size: PAGE_SIZE }] }));
    expect(system.kernel.pages.counters.free).toBe(before);
  });
});
