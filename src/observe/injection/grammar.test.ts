import { describe, expect, it } from "vitest";
import { InjectionSyntaxError, parseInjection } from "./grammar.js";

const plain = { on: "load", broadcast: false };

describe("the injection grammar", () => {
  it.each([
    ["smi@insn=1000", { event: "smi", when: { kind: "insn", from: 1000, to: 1000, step: 1 }, ...plain }],
    ["smi@insn=1_000_000", { event: "smi", when: { kind: "insn", from: 1000000, to: 1000000, step: 1 }, ...plain }],
    ["csmi@insn=10..50/20", { event: "csmi", when: { kind: "insn", from: 10, to: 50, step: 20 }, ...plain }],
    ["nmi@rip=0xffffffff81000000", { event: "nmi", when: { kind: "rip", address: 0xffffffff81000000n }, ...plain }],
    ['smi@console="a, b"', { event: "smi", when: { kind: "console", text: "a, b" }, ...plain }],
    ["smi@console=login", { event: "smi", when: { kind: "console", text: "login" }, ...plain }],
    [
      'memory-error@console="x\\"y\\n",on=fetch',
      { event: "memory-error", when: { kind: "console", text: 'x"y\n' }, on: "fetch", broadcast: false },
    ],
    [
      "memory-error@insn=0x10,gpa=0x1000,vcpu=0",
      { event: "memory-error", when: { kind: "insn", from: 16, to: 16, step: 1 }, ...plain, gpa: 0x1000, vcpu: 0 },
    ],
    [
      "smi@insn=5,broadcast",
      { event: "smi", when: { kind: "insn", from: 5, to: 5, step: 1 }, on: "load", broadcast: true },
    ],
  ])("%s", (text, expected) => {
    expect(parseInjection(text)).toMatchObject(expected);
  });

  it("keeps the text of WHEN as given", () => {
    expect(parseInjection('smi@console="a,b",vcpu=0').whenText).toBe('console="a,b"');
  });

  it.each([
    ["smi", 'there is no "@" in "smi"'],
    ["boom@insn=1", 'there is no event "boom"'],
    ["smi@", '"" does not say when'],
    ["smi@tomorrow", '"tomorrow" does not say when'],
    ["smi@insn=", "insn= is not a count"],
    ["smi@insn=-1", "insn=-1 is not a count"],
    ["smi@insn=1e6", "insn=1e6 is not a count"],
    ["smi@insn=99999999999999999999", "is not a count"],
    ["smi@insn=1..9", "insn=1..9 has no step"],
    ["smi@insn=1..9/0", "the step of insn=1..9/0 is 0"],
    ["smi@insn=9..1/1", "ends before it begins"],
    ["smi@rip=here", "rip=here is not an address"],
    ["smi@rip=0x1ffffffffffffffff", "is not an address"],
    ['smi@console="open', "do not match"],
    ['smi@console="a"b', "do not match"],
    ["smi@console=", "console= has no text"],
    ["smi@insn=1,gpa=0x1000", 'smi takes no key "gpa"'],
    ["smi@insn=1,colour=red", 'smi takes no key "colour"'],
    ["memory-error@insn=1,on=store", "on=store is no access"],
    ["memory-error@insn=1,gpa=0x10000000000000", "gpa=0x10000000000000 is not an address"],
    ["memory-error@insn=1,on=load,gpa=0", "exclude each other"],
    ["smi@insn=1,vcpu=0,vcpu=0", "given twice"],
    ["smi@insn=1,broadcast=yes", "takes no value"],
    ["smi@insn=1,", 'smi takes no key ""'],
  ])("refuses %s", (text, message) => {
    expect(() => parseInjection(text)).toThrow(message);
    try {
      parseInjection(text);
    } catch (error) {
      expect(error).toBeInstanceOf(InjectionSyntaxError);
      expect((error as InjectionSyntaxError).hint).not.toBe("");
    }
  });
});
