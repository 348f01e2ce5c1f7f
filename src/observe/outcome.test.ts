import { describe, expect, it } from "vitest";
import { parseInjection } from "./injection/grammar.js";
import { type Outcome, outcomeDocument } from "./outcome.js";

const FATAL: Outcome = {
  outcome: "td-fatal",
  error: null,
  guest: { name: "debian:6.12.107", kernel: "vmlinuz", sha256: "ab" },
  config: {
    memory: 2 ** 29,
    vcpus: 1,
    append: "console=ttyS0",
    seed: 2n ** 60n,
    profiles: { module: "1.5", host: "fixed" },
    emca: true,
    filter: true,
  },
  kvmExit: { name: "KVM_EXIT_INTERNAL_ERROR", reason: 17, suberror: 4, data: [0x6000000500000006n, 0n] },
  signal: null,
  instructions: 900000412,
  clock: 900000500,
  seconds: 6.12345,
  startupSeconds: 0.7,
  exits: { OTHER_SMI: 3 },
  smmEntries: 3,
  machineChecks: 1,
  pages: { private: 114688, returned: 114687, withheld: [0x1c2d3000], leaked: 0, poisoned: [0x1c2d3000] },
  injections: [
    {
      spec: parseInjection("memory-error@insn=900000000"),
      fired: 1,
      taken: [{ retired: 900000412, vcpu: 0, gpa: 0x1000, hpa: 0x1c2d3000 }],
    },
  ],
  vcpus: [{ index: 0, state: "DISABLED", retired: 900000412, rip: 0xffffffff81000000n }],
};

describe("the outcome document", () => {
  it("is what the outer face promises", () => {
    expect(outcomeDocument(FATAL)).toEqual({
      schema: 1,
      outcome: "td-fatal",
      error: null,
      guest: { name: "debian:6.12.107", kernel: "vmlinuz", sha256: "ab" },
      config: {
        memory: 536870912,
        vcpus: 1,
        append: "console=ttyS0",
        seed: "1152921504606846976",
        profiles: { module: "1.5", host: "fixed" },
        emca: true,
        filter: true,
      },
      kvmExit: { name: "KVM_EXIT_INTERNAL_ERROR", reason: 17, suberror: 4, data: ["0x6000000500000006", "0x0"] },
      signal: null,
      instructions: 900000412,
      clock: 900000500,
      seconds: 6.123,
      startupSeconds: 0.7,
      mips: 147,
      exits: { OTHER_SMI: 3 },
      smm: { entries: 3 },
      machineChecks: 1,
      pages: { private: 114688, returned: 114687, withheld: ["0x1c2d3000"], leaked: 0, poisoned: ["0x1c2d3000"] },
      injections: [
        {
          event: "memory-error",
          when: "insn=900000000",
          fired: 1,
          taken: [{ retired: 900000412, vcpu: 0, gpa: "0x1000", hpa: "0x1c2d3000" }],
        },
      ],
      vcpus: [{ index: 0, state: "DISABLED", retired: 900000412, rip: "0xffffffff81000000" }],
    });
  });

  it("survives a trip through JSON unchanged", () => {
    const document = outcomeDocument(FATAL);
    expect(JSON.parse(JSON.stringify(document))).toEqual(document);
  });

  it("leaves out what an exit does not have, and divides by no zero", () => {
    const document = outcomeDocument({ ...FATAL, kvmExit: { name: "KVM_EXIT_SHUTDOWN", reason: 8 }, seconds: 0 });
    expect(document.kvmExit).toEqual({ name: "KVM_EXIT_SHUTDOWN", reason: 8 });
    expect(document.mips).toBe(0);
  });
});
