import { beforeEach, describe, expect, it } from "vitest";
import { type Assembler, byte, cr3, cr4, qword, rax, rbx, rcx } from "../../arch/assembler/index.js";
import { REG } from "../layout.js";
import { AT, PTE, type Ring, TestMachine } from "../testing.js";

const machine = new TestMachine();
const { state, view } = machine;
const PF = 14;
const P = 1;
const W = 2;
const U = 4;
const RSVD = 8;
const FETCH = 16;
const CR0_WP = 1n << 16n;
const SMEP = 1n << 20n;
const SMAP = 1n << 21n;
const AC = 1n << 18n;
const DATA = BigInt(AT.DATA);

beforeEach(() => machine.reset());

type Access = "read" | "write" | "fetch";

/** Makes one access; gives the error code of the page fault, or null. */
function access(kind: Access, ring: Ring, linear: number = AT.DATA): number | null {
  machine.ring(ring);
  if (kind === "fetch") view.setUint16(AT.DATA, 0xfeeb, true);
  machine.load((asm) => {
    asm.mov(rbx, BigInt(linear));
    if (kind === "read") asm.mov(rax, qword(rbx));
    else if (kind === "write") asm.mov(qword(rbx), rax);
    else asm.jmp(rbx);
  });
  if (kind === "fetch") machine.end = linear;
  const { vector } = machine.go(50);
  if (vector === null) return null;
  expect(vector).toBe(PF);
  expect(state.get(REG.CR2)).toBe(BigInt(linear));
  return Number(machine.stack(1)[0]);
}

interface Case {
  readonly name: string;
  readonly entry: bigint;
  readonly cr0?: bigint;
  readonly cr4?: bigint;
  readonly flags?: bigint;
  readonly nxe?: boolean;
  readonly kind: Access;
  readonly ring: Ring;
  readonly error: number | null;
}

const page = DATA | PTE.P | PTE.W | PTE.U;
const supervisor = DATA | PTE.P | PTE.W;
const readOnly = DATA | PTE.P | PTE.U;
const CASES: readonly Case[] = [
  { name: "present", entry: page, kind: "read", ring: 0, error: null },
  { name: "not present", entry: 0n, kind: "read", ring: 0, error: 0 },
  { name: "not present", entry: 0n, kind: "write", ring: 0, error: W },
  { name: "not present", entry: 0n, kind: "fetch", ring: 0, error: FETCH },
  { name: "not present", entry: 0n, kind: "read", ring: 3, error: U },
  { name: "not present", entry: 0n, kind: "write", ring: 3, error: W | U },
  { name: "not present", entry: 0n, kind: "fetch", ring: 3, error: U | FETCH },
  { name: "not present, nothing tells fetches apart", entry: 0n, nxe: false, kind: "fetch", ring: 0, error: 0 },
  { name: "supervisor page", entry: supervisor, kind: "read", ring: 3, error: P | U },
  { name: "supervisor page", entry: supervisor, kind: "write", ring: 3, error: P | W | U },
  { name: "supervisor page", entry: supervisor, kind: "fetch", ring: 3, error: P | U | FETCH },
  { name: "read-only page", entry: readOnly, kind: "write", ring: 3, error: P | W | U },
  { name: "read-only page, WP", entry: readOnly, cr0: CR0_WP, kind: "write", ring: 0, error: P | W },
  { name: "read-only page, no WP", entry: readOnly, kind: "write", ring: 0, error: null },
  { name: "NX", entry: page | PTE.NX, kind: "fetch", ring: 0, error: P | FETCH },
  { name: "NX", entry: page | PTE.NX, kind: "fetch", ring: 3, error: P | U | FETCH },
  { name: "NX", entry: page | PTE.NX, kind: "read", ring: 3, error: null },
  { name: "NX without NXE", entry: page | PTE.NX, nxe: false, kind: "read", ring: 0, error: P | RSVD },
  { name: "NX without NXE", entry: page | PTE.NX, nxe: false, kind: "write", ring: 3, error: P | W | U | RSVD },
  { name: "SMEP", entry: page, cr4: SMEP, kind: "fetch", ring: 0, error: P | FETCH },
  { name: "SMEP", entry: page, cr4: SMEP, kind: "fetch", ring: 3, error: null },
  { name: "SMEP", entry: supervisor, cr4: SMEP, kind: "fetch", ring: 0, error: null },
  { name: "SMAP", entry: page, cr4: SMAP, kind: "read", ring: 0, error: P },
  { name: "SMAP", entry: page, cr4: SMAP, kind: "write", ring: 0, error: P | W },
  { name: "SMAP with AC", entry: page, cr4: SMAP, flags: AC, kind: "write", ring: 0, error: null },
  {
    name: "SMAP with AC, WP",
    entry: readOnly,
    cr4: SMAP,
    flags: AC,
    cr0: CR0_WP,
    kind: "write",
    ring: 0,
    error: P | W,
  },
  { name: "SMAP", entry: page, cr4: SMAP, kind: "read", ring: 3, error: null },
  { name: "SMAP", entry: page, cr4: SMAP, kind: "fetch", ring: 0, error: null },
];

describe("page-fault error codes", () => {
  it.each(CASES)("$name, ring $ring $kind: $error", ({ entry, cr0, cr4: more, flags, nxe, kind, ring, error }) => {
    // Code, stacks and tables must be where SMEP and SMAP leave them alone.
    for (let at = 0; at < AT.DATA; at += 0x1000)
      if (ring === 0 || at < AT.STACK - 0x1000) machine.map(at, BigInt(at) | PTE.P | PTE.W);
    state.set(REG.CR0, (state.get(REG.CR0) & ~CR0_WP) | (cr0 ?? 0n));
    state.set(REG.CR4, state.get(REG.CR4) | (more ?? 0n));
    if (nxe === false) state.set(REG.EFER, state.get(REG.EFER) & ~0x800n);
    machine.map(AT.DATA, entry);
    machine.map(AT.HANDLERS, BigInt(AT.HANDLERS) | PTE.P);
    state.rflags = 2n | (flags ?? 0n);
    expect(access(kind, ring)).toBe(error);
  });

  it.each([0, 1, 2])("a clear P bit at level %i below the root's", (level) => {
    const table = [AT.PML4, AT.PDPT, AT.PD][level] as number;
    // Another linear region, so that the program itself stays mapped.
    const linear = [1 << 30, 1 << 30, 1 << 21][level] as number;
    if (level === 0) return;
    machine.table(table, 1, 0n);
    expect(access("read", 0, linear)).toBe(0);
  });

  it("reserved bits: PS in the PML4, low address bits of large pages", () => {
    machine.table(AT.PD, 1, 0x20_0000n | 0x2000n | PTE.PS | 7n);
    expect(access("read", 0, 0x20_0000)).toBe(P | RSVD);
    machine.table(AT.PDPT, 1, 0x4000_0000n | (1n << 13n) | PTE.PS | 7n);
    expect(access("write", 0, 0x4000_0000)).toBe(P | W | RSVD);
    machine.table(AT.PML4, 1, PTE.PS | 7n);
    machine.ring(0);
    machine.load((asm) => {
      asm.mov(rbx, 1n << 39n);
      asm.mov(rax, qword(rbx));
    });
    expect(machine.go().vector).toBe(PF);
    expect(machine.stack(1)).toEqual([BigInt(P | RSVD)]);
  });
});

describe("page sizes", () => {
  it.each([
    ["2 MiB", AT.PD, 1, 0x20_0000],
    ["1 GiB", AT.PDPT, 1, 0x4000_0000],
  ] as const)("%s", (_name, table, n, linear) => {
    const base = table === AT.PD ? 0x20_0000n : 0n;
    machine.table(table, n, base | PTE.PS | 7n);
    const offset = table === AT.PD ? 0x12_3458 : 0x22_3458;
    view.setBigUint64(Number(base) + offset, 0x1234_5678_9abc_def0n, true);
    machine.run((asm) => {
      asm.mov(rbx, BigInt(linear + offset));
      asm.mov(rax, qword(rbx));
      asm.add(qword(rbx), 1);
    });
    expect(state.gpr(0)).toBe(0x1234_5678_9abc_def0n);
    expect(view.getBigUint64(Number(base) + offset, true)).toBe(0x1234_5678_9abc_def1n);
    expect(view.getBigUint64(table + n * 8, true) & 0x60n).toBe(0x60n);
  });

  it("paging off: linear is physical, modulo 4 GiB", () => {
    state.set(REG.CR0, 0x33n);
    state.set(REG.EFER, 0n);
    machine.core.flushAll();
    machine.ring(0, 32);
    view.setUint32(AT.DATA, 0xcafe, true);
    machine.run((asm) => asm.db(0xa1, 0x00, 0x00, 0x02, 0x00), { bits: 32 });
    expect(state.gpr(0)).toBe(0xcafen);
  });
});

describe("accessed and dirty", () => {
  it("accessed at every level by a read, dirty by the first write only", () => {
    machine.flagAllLevels(AT.DATA, PTE.A, false);
    expect(access("read", 0)).toBeNull();
    expect(machine.entryOf(AT.DATA) & 0x60n).toBe(PTE.A);
    for (const table of [AT.PML4, AT.PDPT, AT.PD]) expect(view.getBigUint64(table, true) & PTE.A).toBe(PTE.A);
    expect(access("write", 0)).toBeNull();
    expect(machine.entryOf(AT.DATA) & 0x60n).toBe(0x60n);
  });

  it("a write after a cached read sets dirty", () => {
    machine.run((asm) => {
      asm.mov(rbx, DATA);
      asm.mov(rax, qword(rbx));
      asm.mov(qword(rbx), rax);
    });
    expect(machine.entryOf(AT.DATA) & 0x60n).toBe(0x60n);
  });

  it("a faulting access leaves the leaf alone", () => {
    machine.map(AT.DATA, DATA | PTE.P | PTE.U);
    expect(access("write", 3)).toBe(P | W | U);
    expect(machine.entryOf(AT.DATA)).toBe(DATA | PTE.P | PTE.U);
  });

  it("a fetch sets accessed and not dirty", () => {
    expect(access("fetch", 0)).toBeNull();
    expect(machine.entryOf(AT.DATA) & 0x60n).toBe(PTE.A);
  });
});

describe("accesses across pages", () => {
  const EDGE = AT.DATA + 0xffc;
  const WRITES: readonly [string, (asm: Assembler) => void][] = [
    ["mov", (asm) => asm.mov(qword(rbx), rax)],
    ["add", (asm) => asm.add(qword(rbx), rax)],
    ["xchg", (asm) => asm.xchg(qword(rbx), rax)],
    ["movups", (asm) => asm.db(0x0f, 0x11, 0x03)],
    ["sgdt", (asm) => asm.sgdt(byte(rbx))],
  ];
  it.each(WRITES)("%s with the second page missing commits nothing", (_name, write) => {
    machine.map(AT.DATA + 0x1000, 0n);
    view.setUint32(EDGE, 0x1111_1111, true);
    machine.load((asm) => {
      asm.mov(rax, -1n);
      asm.mov(rbx, BigInt(EDGE));
      write(asm);
    });
    expect(machine.go().vector).toBe(PF);
    expect(state.get(REG.CR2)).toBe(BigInt(AT.DATA + 0x1000));
    expect(machine.stack(1)).toEqual([BigInt(W)]);
    expect(view.getUint32(EDGE, true)).toBe(0x1111_1111);
    expect(state.gpr(0)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it("the second page read-only: error code and address of the second page", () => {
    machine.map(AT.DATA + 0x1000, BigInt(AT.DATA + 0x1000) | PTE.P | PTE.U);
    machine.ring(3);
    machine.load((asm) => {
      asm.mov(rbx, BigInt(EDGE));
      asm.mov(qword(rbx), rbx);
    });
    expect(machine.go().vector).toBe(PF);
    expect(machine.stack(1)).toEqual([BigInt(P | W | U)]);
    expect(state.get(REG.CR2)).toBe(BigInt(AT.DATA + 0x1000));
    expect(view.getUint32(EDGE, true)).toBe(0);
  });

  it("reads, writes and updates pages that are not neighbours in memory", () => {
    machine.map(AT.DATA + 0x1000, 0x3_0000n | 7n);
    view.setUint32(EDGE, 0x89ab_cdef, true);
    view.setUint32(0x3_0000, 0x0123_4567, true);
    machine.run((asm) => {
      asm.mov(rbx, BigInt(EDGE));
      asm.mov(rax, qword(rbx));
      asm.add(qword(rbx), 0x11);
    });
    expect(state.gpr(0)).toBe(0x0123_4567_89ab_cdefn);
    expect(view.getUint32(EDGE, true)).toBe(0x89ab_ce00);
    expect(view.getUint32(0x3_0000, true)).toBe(0x0123_4567);
  });
});

describe("invalidation", () => {
  const ENTRY = AT.PT + (AT.DATA >> 12) * 8;
  const WAYS: readonly [string, (asm: Assembler) => void][] = [
    ["INVLPG", (asm) => asm.invlpg(byte(rbx))],
    [
      "MOV CR3",
      (asm) => {
        asm.mov(rax, cr3);
        asm.mov(cr3, rax);
      },
    ],
    [
      "MOV CR4",
      (asm) => {
        asm.mov(rax, cr4);
        asm.xor(rax, 0x80);
        asm.mov(cr4, rax);
      },
    ],
    [
      "INVPCID of one address",
      (asm) => {
        asm.xor(rax, rax);
        asm.db(0x66, 0x0f, 0x38, 0x82, 0x01);
      },
    ],
    [
      "INVPCID of all contexts",
      (asm) => {
        asm.mov(rax, 2);
        asm.db(0x66, 0x0f, 0x38, 0x82, 0x01);
      },
    ],
  ];
  it.each(WAYS)("%s makes a changed entry seen", (_name, invalidate) => {
    view.setUint32(AT.DATA, 1, true);
    view.setUint32(0x3_0000, 2, true);
    view.setBigUint64(0x3_1008, DATA, true);
    machine.run((asm) => {
      asm.mov(rbx, DATA);
      asm.mov(rcx, 0x3_1000n);
      asm.mov(rax, qword(rbx));
      asm.mov(rax, 0x3_0007n);
      asm.mov(qword(ENTRY), rax);
      invalidate(asm);
      asm.mov(rax, qword(rbx));
    });
    expect(state.gpr(0)).toBe(2n);
  });

  it("INVLPG of an address that is not canonical does nothing", () => {
    expect(
      machine.run((asm) => {
        asm.mov(rbx, 1n << 62n);
        asm.invlpg(byte(rbx));
      }).vector,
    ).toBeNull();
  });

  it.each([
    ["type 4", 4n, 0n, 0n],
    ["reserved bits", 0n, 0x1000n, 0n],
    ["a PCID without CR4.PCIDE", 1n, 1n, 0n],
    ["an address that is not canonical", 0n, 0n, 1n << 62n],
  ])("INVPCID with %s: #GP(0)", (_name, type, low, high) => {
    view.setBigUint64(AT.DATA, low, true);
    view.setBigUint64(AT.DATA + 8, high, true);
    const { vector } = machine.run((asm) => {
      asm.mov(rcx, DATA);
      asm.mov(rax, type);
      asm.db(0x66, 0x0f, 0x38, 0x82, 0x01);
    });
    expect(vector).toBe(13);
  });
});
