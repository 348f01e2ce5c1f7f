import { describe, expect, it } from "vitest";
import { readFatalReport } from "./fatal-report.js";

describe("ReportFatalError", () => {
  it("has its text in eight registers and its code in R12", () => {
    const text = "TD misconfiguration: SEPT #VE has to be disabled.".padEnd(64, "\0");
    const words = new BigUint64Array(Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer);
    const data = new BigUint64Array(16);
    [14, 15, 3, 7, 6, 8, 9, 2].forEach((register, index) => {
      data[register] = words[index] ?? 0n;
    });
    data[12] = 7n;
    expect(readFatalReport(data)).toEqual({ code: 7n, text: text.replaceAll("\0", "") });
  });

  it("may be 64 characters long, and strange ones do no harm", () => {
    const data = new BigUint64Array(16).fill(0x4142_4344_4546_0747n);
    const { text } = readFatalReport(data);
    expect(text).toHaveLength(64);
    expect(text).toMatch(/^G\?FEDCBAG/);
  });
});
