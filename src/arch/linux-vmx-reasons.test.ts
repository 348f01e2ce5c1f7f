import { describe, expect, it } from "vitest";
import { exitCountName, linuxExitSymbol } from "./linux-vmx-reasons.js";
import { EXIT_REASON } from "./vmx.js";

describe("exit reason 6", () => {
  it("lies between SIPI_SIGNAL and INTERRUPT_WINDOW", () => {
    expect(EXIT_REASON).toMatchObject({ SIPI_SIGNAL: 4, OTHER_SMI: 6, INTERRUPT_WINDOW: 7 });
  });

  it("has no symbol in the kernel's trace points, and a name in our counts", () => {
    expect(linuxExitSymbol(EXIT_REASON.OTHER_SMI)).toBe("0x6");
    expect(exitCountName(EXIT_REASON.OTHER_SMI)).toBe("OTHER_SMI");
  });

  it("is not the only one without a symbol: those print as hex", () => {
    expect(linuxExitSymbol(0x1234)).toBe("0x1234");
    expect(exitCountName(EXIT_REASON.HLT)).toBe("HLT");
  });
});
