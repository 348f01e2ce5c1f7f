import { Decoder, DecoderOptions, FlowControl, Mnemonic } from "iced-x86";
import { describe, expect, it } from "vitest";
import { identityMap } from "./identity-map.js";
import { PAGE_SIZE, RESET_VECTOR, SHIM } from "./layout.js";
import { encodeParameters } from "./parameters.js";
import { assembleShim } from "./shim.js";

interface Run {
  readonly mnemonics: number[];
  readonly target: bigint;
  readonly end: number;
  readonly indirect: boolean;
}

/** Mnemonics that an independent decoder reads from `address` to the first branch that does not come back. */
function decodeFrom(code: Uint8Array, address: number, bits: number): Run {
  const decoder = new Decoder(bits, code.subarray(address - SHIM.CODE), DecoderOptions.None);
  decoder.ip = BigInt(address);
  const mnemonics: number[] = [];
  for (;;) {
    const instruction = decoder.decode();
    mnemonics.push(instruction.mnemonic);
    const leaves = instruction.flowControl === FlowControl.UnconditionalBranch;
    const indirect = instruction.flowControl === FlowControl.IndirectBranch;
    const target = instruction.nearBranchTarget || BigInt(instruction.farBranch32);
    const end = Number(instruction.nextIP);
    instruction.free();
    if (leaves || indirect || mnemonics.length > 200) {
      decoder.free();
      return { mnemonics, target, end, indirect };
    }
  }
}

describe("the shim's code page", () => {
  const code = assembleShim();

  it("is one page that ends with the reset vector's jump into it", () => {
    expect(code).toHaveLength(PAGE_SIZE);
    const { mnemonics, target } = decodeFrom(code, RESET_VECTOR, 32);
    expect(mnemonics).toEqual([Mnemonic.Jmp]);
    expect(Number(target)).toBe(SHIM.CODE);
  });

  it("goes to 64-bit mode without writing EFER", () => {
    const { mnemonics, target, end } = decodeFrom(code, SHIM.CODE, 32);
    expect(mnemonics.slice(-2)).toEqual([Mnemonic.Lgdt, Mnemonic.Jmp]);
    expect(mnemonics).not.toContain(Mnemonic.Wrmsr);
    expect(Number(target)).toBe(end);
  });

  it("decodes in 64-bit mode to the jump to the kernel", () => {
    let address = decodeFrom(code, SHIM.CODE, 32).end;
    const seen = new Set<number>();
    for (let last = false; !last; ) {
      const { mnemonics, end, indirect } = decodeFrom(code, address, 64);
      for (const mnemonic of mnemonics) seen.add(mnemonic);
      address = end;
      last = indirect;
    }
    expect(seen).not.toContain(Mnemonic.INVALID);
    expect(seen).toContain(Mnemonic.Tdcall);
  });
});

describe("identity map", () => {
  it("maps 4 GiB by 2 MiB pages", () => {
    const base = 0x9000;
    const view = new DataView(identityMap(base).buffer);
    const entry = (table: number, index: number) => view.getBigUint64(table * PAGE_SIZE + 8 * index, true);
    expect(entry(0, 0)).toBe(BigInt(base + PAGE_SIZE) | 3n);
    expect(entry(0, 1)).toBe(0n);
    expect(entry(1, 3)).toBe(BigInt(base + 5 * PAGE_SIZE) | 3n);
    expect(entry(2, 1)).toBe(0x20_0083n);
    expect(entry(5, 511)).toBe(0xffe0_0083n);
  });
});

describe("parameters", () => {
  it("hold the entry, boot_params and the ranges", () => {
    const accept = [{ start: 0x1000, end: 0x3000 }];
    const words = new BigUint64Array(
      encodeParameters({ kernelEntry: 0x100_0200, bootParams: 0x7000, mailbox: 0, accept }).buffer,
    );
    expect([...words.subarray(0, 7)]).toEqual([0x100_0200n, 0x7000n, 0n, 1n, 0x1000n, 0x3000n, 0n]);
  });

  it("refuse more ranges than fit in their page", () => {
    const accept = Array.from({ length: 255 }, () => ({ start: 0, end: PAGE_SIZE }));
    expect(() => encodeParameters({ kernelEntry: 0, bootParams: 0, mailbox: 0, accept })).toThrow(RangeError);
  });
});
