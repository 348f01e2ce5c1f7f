import { beforeEach, describe, expect, it } from "vitest";
import { Executor } from "../executor.js";
import { CpuException } from "../faults.js";
import { RAM_BASE, REG, SEGMENT } from "../layout.js";

// What a comparison with a real processor does not show: faults of modes that a process cannot enter, choices that the
// architecture leaves open, and known results.

const CODE = 0x10_000;
const DATA = 0x20_000;
const RAM_BYTES = 0x40_000;
const ROOT = 0x1000;
const CR0 = 0x8001_0033n;
const CR0_EM = 4n;
const CR0_TS = 8n;
const CR4 = 0x620n;
const CR4_OSFXSR = 0x200n;

const memory = new WebAssembly.Memory({
  initial: (RAM_BASE + RAM_BYTES) / 0x1_0000,
  maximum: 0x1_0000,
  shared: true,
});
const executor = new Executor(memory);
const { state } = executor;
const bytes = new Uint8Array(memory.buffer);
const view = new DataView(memory.buffer);

/** The data page is followed by one that is not mapped. */
function mapMemory(): void {
  const entry = (table: number, n: number, value: number): void =>
    view.setBigUint64(RAM_BASE + table + n * 8, BigInt(value) | 7n, true);
  for (const [level, next] of [
    [ROOT, 0x2000],
    [0x2000, 0x3000],
    [0x3000, 0x4000],
  ] as const)
    entry(level, 0, next);
  entry(0x4000, CODE >> 12, CODE);
  entry(0x4000, DATA >> 12, DATA);
}

beforeEach(() => {
  mapMemory();
  bytes.fill(0, RAM_BASE + DATA, RAM_BASE + DATA + 0x1000);
  state.set(REG.CR0, CR0);
  state.set(REG.CR3, BigInt(ROOT));
  state.set(REG.CR4, CR4);
  state.set(REG.EFER, 0xd00n);
  const flat = { base: 0n, limit: 0xffff_ffff };
  state.setSegment(SEGMENT.CS, { ...flat, selector: 8, rights: 0xa09b });
  for (const n of [SEGMENT.SS, SEGMENT.DS]) state.setSegment(n, { ...flat, selector: 16, rights: 0xc093 });
  state.set32(REG.MXCSR, 0x1f80);
  state.set16(REG.FCW, 0x37f);
  state.set16(REG.FSW, 0);
  state.set16(REG.FTW, 0xffff);
  executor.modeChanged();
});

/** Executes one instruction; gives the vector of its exception, or null. */
function execute(...code: number[]): number | null {
  bytes.set(code, RAM_BASE + CODE);
  executor.invalidateCode(CODE, 16);
  state.rip = BigInt(CODE);
  const end = executor.slice(1);
  if (end.kind === "budget") return null;
  if (end.kind === "fault" && end.fault instanceof CpuException) return end.fault.vector;
  throw new Error(`ended by ${end.kind}`);
}

function setXmm(n: number, hex: string): void {
  const value = BigInt(`0x${hex}`);
  state.set(REG.XMM + n * 16, BigInt.asUintN(64, value));
  state.set(REG.XMM + n * 16 + 8, value >> 64n);
}
const xmm = (n: number): string =>
  [state.get(REG.XMM + n * 16 + 8), state.get(REG.XMM + n * 16)]
    .map((half) => half.toString(16).padStart(16, "0"))
    .join("");

describe("availability", () => {
  const UD = 6;
  const NM = 7;
  const MF = 16;
  const PF = 14;
  const PXOR_XMM = [0x66, 0x0f, 0xef, 0xc1];
  const PXOR_MM = [0x0f, 0xef, 0xc1];
  const EMMS = [0x0f, 0x77];
  const LDMXCSR = [0x0f, 0xae, 0x16];
  const MOVQ2DQ = [0xf3, 0x0f, 0xd6, 0xc1];
  // A load from an address that is not mapped: that the unit is unavailable comes first.
  const LOAD_XMM = [0x0f, 0x10, 0x06];
  const LOAD_MM = [0x0f, 0x6f, 0x06];

  const rows: readonly [name: string, code: number[], cr0: bigint, cr4: bigint, fsw: number, vector: number | null][] =
    [
      ["XMM as it should be", PXOR_XMM, CR0, CR4, 0, null],
      ["XMM with CR0.EM", PXOR_XMM, CR0 | CR0_EM, CR4, 0, UD],
      ["XMM without CR4.OSFXSR", PXOR_XMM, CR0, CR4 & ~CR4_OSFXSR, 0, UD],
      ["XMM with CR0.TS", PXOR_XMM, CR0 | CR0_TS, CR4, 0, NM],
      ["XMM with CR0.EM and CR0.TS", PXOR_XMM, CR0 | CR0_EM | CR0_TS, CR4, 0, UD],
      ["XMM with a pending x87 exception", PXOR_XMM, CR0, CR4, 0x81, null],
      ["XMM load with CR0.TS", LOAD_XMM, CR0 | CR0_TS, CR4, 0, NM],
      ["XMM load from nowhere", LOAD_XMM, CR0, CR4, 0, PF],
      ["LDMXCSR with CR0.TS", LDMXCSR, CR0 | CR0_TS, CR4, 0, NM],
      ["MMX without CR4.OSFXSR", PXOR_MM, CR0, CR4 & ~CR4_OSFXSR, 0, null],
      ["MMX with CR0.EM", PXOR_MM, CR0 | CR0_EM, CR4, 0, UD],
      ["MMX with CR0.TS", PXOR_MM, CR0 | CR0_TS, CR4, 0x81, NM],
      ["MMX with a pending x87 exception", PXOR_MM, CR0, CR4, 0x81, MF],
      ["MMX load with a pending x87 exception", LOAD_MM, CR0, CR4, 0x81, MF],
      ["EMMS with CR0.EM", EMMS, CR0 | CR0_EM, CR4, 0, UD],
      ["MOVQ2DQ without CR4.OSFXSR", MOVQ2DQ, CR0, CR4 & ~CR4_OSFXSR, 0, UD],
      ["MOVQ2DQ with a pending x87 exception", MOVQ2DQ, CR0, CR4, 0x81, MF],
    ];
  it.each(rows)("%s", (_, code, cr0, cr4, fsw, vector) => {
    state.set(REG.CR0, cr0);
    state.set(REG.CR4, cr4);
    state.set16(REG.FSW, fsw);
    state.setGpr(6, 0x30_000n);
    executor.modeChanged();
    expect(execute(...code)).toBe(vector);
  });
});

describe("MXCSR", () => {
  it("takes all of its bits and no other", () => {
    state.setGpr(6, BigInt(DATA));
    view.setUint32(RAM_BASE + DATA, 0xffff, true);
    expect(execute(0x0f, 0xae, 0x16)).toBeNull();
    expect(state.get32(REG.MXCSR)).toBe(0xffff);
    for (const reserved of [0x1_0000, 0x2_0000, 0x8000_0000]) {
      view.setUint32(RAM_BASE + DATA, reserved, true);
      expect(execute(0x0f, 0xae, 0x16)).toBe(13);
      expect(state.get32(REG.MXCSR)).toBe(0xffff);
    }
  });
});

describe("MMX and x87 share registers", () => {
  it("an MMX write makes the x87 registers valid, TOP 0 and the exponent all ones", () => {
    state.set16(REG.FSW, 0x3800);
    state.setGpr(0, 0x1234n);
    expect(execute(0x0f, 0x6e, 0xd8)).toBeNull();
    expect(state.get(REG.FPR + 3 * 16)).toBe(0x1234n);
    expect(state.get16(REG.FPR + 3 * 16 + 8)).toBe(0xffff);
    expect([state.get16(REG.FSW), state.get16(REG.FTW)]).toEqual([0, 0]);
    expect(execute(0x0f, 0x77)).toBeNull();
    expect(state.get16(REG.FTW)).toBe(0xffff);
  });
});

describe("alignment", () => {
  it.each([
    ["PADDB", [0x66, 0x0f, 0xfc, 0x06], 13],
    ["SHA1MSG1", [0x0f, 0x38, 0xc9, 0x06], 13],
    ["AESENC", [0x66, 0x0f, 0x38, 0xdc, 0x06], 13],
    ["MOVAPS store", [0x0f, 0x29, 0x06], 13],
    ["PCMPISTRI", [0x66, 0x0f, 0x3a, 0x63, 0x06, 0], null],
    ["MOVDQU", [0xf3, 0x0f, 0x6f, 0x06], null],
    ["LDDQU", [0xf2, 0x0f, 0xf0, 0x06], null],
  ] as const)("%s", (_, code, vector) => {
    state.setGpr(6, BigInt(DATA + 1));
    expect(execute(...code)).toBe(vector);
  });
});

describe("MASKMOVDQU", () => {
  const MASKMOVDQU = [0x66, 0x0f, 0xf7, 0xc1];
  const stored = (at: number): string => Buffer.from(bytes.slice(RAM_BASE + at, RAM_BASE + at + 16)).toString("hex");

  it("stores the bytes whose mask has its sign set", () => {
    setXmm(0, "0f0e0d0c0b0a09080706050403020100");
    setXmm(1, "80000000000000800000000000ff7f80");
    state.setGpr(7, BigInt(DATA + 3));
    expect(execute(...MASKMOVDQU)).toBeNull();
    expect(stored(DATA + 3)).toBe("0000020000000000080000000000000f");
  });

  it("needs all of its operand writable, and changes nothing when it is not", () => {
    setXmm(0, "ffffffffffffffffffffffffffffffff");
    setXmm(1, "00000000000000008080808080808080");
    state.setGpr(7, BigInt(DATA + 0xff8));
    expect(execute(...MASKMOVDQU)).toBe(14);
    expect(view.getBigUint64(RAM_BASE + DATA + 0xff8, true)).toBe(0n);
  });
});

describe("known results of the AES and carry-less multiply instructions", () => {
  const A = "7b5b54657374566563746f725d53475d";
  const B = "48692853686179295b477565726f6e5d";
  it.each([
    ["AESENC", [0x66, 0x0f, 0x38, 0xdc, 0xc1], A, B, "a8311c2f9fdba3c58b104b58ded7e595"],
    ["AESENCLAST", [0x66, 0x0f, 0x38, 0xdd, 0xc1], A, B, "c7fb881e938c5964177ec42553fdc611"],
    ["AESDEC", [0x66, 0x0f, 0x38, 0xde, 0xc1], A, B, "138ac342faea2787b58eb95eb730392a"],
    ["AESDECLAST", [0x66, 0x0f, 0x38, 0xdf, 0xc1], A, B, "c5a391ef6b317f95d410637b72a593d0"],
    ["AESIMC", [0x66, 0x0f, 0x38, 0xdb, 0xc1], A, B, "597f8df109efaa15f39bc5a119d859b6"],
    [
      "AESKEYGENASSIST 1",
      [0x66, 0x0f, 0x3a, 0xdf, 0xc1, 1],
      A,
      "3c4fcf098815f7aba6d2ae2816157e2b",
      "01eb848beb848a013424b5e524b5e434",
    ],
    ["PCLMULQDQ 00", [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00], A, B, "1d4d84c85c3440c0929633d5d36f0451"],
    ["PCLMULQDQ 01", [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x01], A, B, "1a2bf6db3a30862fbabf262df4b7d5c9"],
    ["PCLMULQDQ 10", [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x10], A, B, "1bd17c8d556ab5a17fa540ac2a281315"],
    ["PCLMULQDQ 11", [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x11], A, B, "1d1e1f2c592e7c45d66ee03e410fd4ed"],
  ])("%s", (_, code, a, b, expected) => {
    setXmm(0, a);
    setXmm(1, b);
    expect(execute(...code)).toBeNull();
    expect(xmm(0)).toBe(expected);
  });
});
