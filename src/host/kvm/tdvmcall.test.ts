import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { KVM_CAP, KVM_EXIT } from "../../arch/kvm-uapi.js";
import { GPR } from "../../platform/seam.js";
import { asyncExit, capture, type FakeTd, makeTd, tdvmcall } from "./testing.js";

const SHARED = 1n << 47n;
const INVALID_OPERAND = 0x8000000000000000n;
const ALIGN_ERROR = 0x8000000000000002n;
const UNSUPPORTED = 0x8000000000000003n;
const reg = (regs: readonly bigint[], register: number): bigint => regs[register] ?? 0n;

/** Runs one TDVMCALL that KVM answers itself; the registers that the guest gets back. */
function call(td: FakeTd, ...args: Parameters<typeof tdvmcall>): bigint[] {
  const back: bigint[] = [];
  td.machine.guest.push(tdvmcall(...args), capture(back));
  expect(td.vcpu.run()).toBe(0);
  expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTERNAL_ERROR);
  return back;
}

/** Goes on after an exit to user space; the registers that the guest gets back. */
function goOn(td: FakeTd): bigint[] {
  const back: bigint[] = [];
  td.machine.guest.push(capture(back));
  expect(td.vcpu.run()).toBe(0);
  return back;
}

describe("CPUID", () => {
  it("answers from KVM_SET_CPUID2 and leaves R10 and R11 alone", () => {
    const td = makeTd();
    const back = call(td, 10, [0x80000008n, 0n]);
    expect([GPR.R10, GPR.R11, GPR.R12, GPR.R13, GPR.R14, GPR.R15].map((r) => reg(back, r))).toEqual([
      0n,
      10n,
      0x00303034n,
      0n,
      0n,
      0n,
    ]);
  });

  it("looks at 32 bits of leaf and subleaf only", () => {
    const td = makeTd();
    expect(reg(call(td, 10, [0xffffffff_80000008n, 0xffffffff_00000000n]), GPR.R12)).toBe(0x00303034n);
  });
});

describe("port I/O", () => {
  it("OUT exits with the data and goes back as it was", () => {
    const td = makeTd();
    td.machine.guest.push(tdvmcall(30, [2, 1, 0x13f8, 0xabcd1234n]));
    expect(td.vcpu.run()).toBe(0);
    const { exitReason, io } = td.vcpu.kvmRun;
    expect(exitReason).toBe(KVM_EXIT.IO);
    expect(io).toMatchObject({ direction: 1, size: 2, port: 0x13f8, count: 1 });
    expect(io.data.getUint16(0, true)).toBe(0x1234);
    const back = goOn(td);
    expect([GPR.R10, GPR.R11, GPR.R15].map((r) => reg(back, r))).toEqual([0n, 30n, 0xabcd1234n]);
    expect(td.vcpu.stats.ioExits).toBe(1);
  });

  it.each([
    [1, 0xdeadbe41, 0x41n],
    [2, 0xdeadbe41, 0xbe41n],
    [4, 0xdeadbe41, 0xdeadbe41n],
  ])("IN of %i bytes gives R11", (size, data, r11) => {
    const td = makeTd();
    td.machine.guest.push(tdvmcall(30, [size, 0, 0x3fd, 0]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.io.direction).toBe(0);
    td.vcpu.kvmRun.io.data.setUint32(0, data, true);
    expect(reg(goOn(td), GPR.R11)).toBe(r11);
  });

  it.each([
    [3, 0],
    [8, 0],
    [0, 0],
    [1, 2],
    [0x1_0000_0001n, 0],
    [1, 0x1_0000_0000n],
  ])("size %s, direction %s is refused", (size, direction) => {
    expect(reg(call(makeTd(), 30, [size, direction, 0x80, 0]), GPR.R10)).toBe(INVALID_OPERAND);
  });
});

describe("MMIO", () => {
  it("a write exits without the SHARED bit", () => {
    const td = makeTd();
    td.machine.guest.push(tdvmcall(48, [8, 1, SHARED | 0xfec00010n, 0x1122334455667788n]));
    expect(td.vcpu.run()).toBe(0);
    const { exitReason, mmio } = td.vcpu.kvmRun;
    expect(exitReason).toBe(KVM_EXIT.MMIO);
    expect(mmio).toMatchObject({ physAddr: 0xfec00010, len: 8, isWrite: true });
    expect(mmio.data.getBigUint64(0, true)).toBe(0x1122334455667788n);
    expect(td.vm.exitCounts).toEqual({ EPT_MISCONFIG: 1 });
  });

  it("a read is completed from user space's data, zero extended", () => {
    const td = makeTd();
    td.machine.guest.push(tdvmcall(48, [4, 0, SHARED | 0xfec00010n, 0]));
    expect(td.vcpu.run()).toBe(0);
    td.vcpu.kvmRun.mmio.data.setBigUint64(0, 0xffffffff_00170020n, true);
    expect(reg(goOn(td), GPR.R11)).toBe(0x170020n);
  });

  it.each([
    ["a private address", 4, 0, 0xfec00000n],
    ["a size of 3", 3, 0, SHARED],
    ["direction 2", 4, 2, SHARED],
    ["an end that is private", 4, 0, SHARED - 2n],
  ])("%s is refused", (_name, size, direction, gpa) => {
    expect(reg(call(makeTd(), 48, [size, direction, gpa, 0]), GPR.R10)).toBe(INVALID_OPERAND);
  });
});

describe("MSRs", () => {
  it.each([
    [0x1b, 0xfee00d00n],
    [0x3a, 1n],
    [0x179, 32n],
    [0x8b, 0x1_0000_0000n],
    [0xc0000080, 0xd01n],
    [0x802, 0n],
    [0x803, 0x01050014n],
    [0x80d, 1n],
  ])("RDMSR 0x%s", (index, value) => {
    const back = call(makeTd(), 31, [index]);
    expect([reg(back, GPR.R10), reg(back, GPR.R11)]).toEqual([0n, value]);
  });

  it.each([0x11, 0x4b564d00, 0x808, 0x80b, 0x83f, 0x9e, 0x48, 0x2ff0, 0x4e, 0x17b])(
    "RDMSR 0x%s is refused",
    (index) => {
      expect(reg(call(makeTd(), 31, [index]), GPR.R10)).toBe(INVALID_OPERAND);
    },
  );

  it.each([
    [0x1b, 0xfee00900n],
    [0x3a, 1n],
    [0xc0000080, 0n],
    [0x802, 1n],
    [0x179, 0n],
    [0x401, 1n],
    [0x83f, 0x30n],
    [0x828, 1n],
  ])("WRMSR 0x%s is refused", (index, value) => {
    expect(reg(call(makeTd(), 32, [index, value]), GPR.R10)).toBe(INVALID_OPERAND);
  });

  it("WRMSR accepts what Linux writes early", () => {
    const td = makeTd();
    expect(reg(call(td, 32, [0x8b, 0n]), GPR.R10)).toBe(0n);
    expect(reg(call(td, 32, [0x400, 0xffff_ffff_ffff_ffffn]), GPR.R10)).toBe(0n);
    expect(reg(call(td, 32, [0x17a, 0n]), GPR.R10)).toBe(0n);
    expect(reg(call(td, 31, [0x8b]), GPR.R11)).toBe(0x1_0000_0000n);
  });

  it("a refused access goes to user space if it asked for it", () => {
    const td = makeTd();
    expect(td.vm.enableCap({ cap: KVM_CAP.X86_USER_SPACE_MSR, args: [1] })).toBe(0);
    td.machine.guest.push(tdvmcall(31, [0x4e]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.X86_RDMSR);
    expect(td.vcpu.kvmRun.msr).toMatchObject({ index: 0x4e, reason: 1 });
    td.vcpu.kvmRun.msr.data = 42n;
    expect(reg(goOn(td), GPR.R11)).toBe(42n);
    td.machine.guest.push(tdvmcall(32, [0x4e, 7n]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.msr).toMatchObject({ index: 0x4e, data: 7n });
    td.vcpu.kvmRun.msr.error = 1;
    expect(reg(goOn(td), GPR.R10)).toBe(INVALID_OPERAND);
  });
});

describe("GHCI leaves", () => {
  it("unknown ones are unsupported, instructions included", () => {
    for (const leaf of [0x10005, 54, 16, 0x1_0000_0000_000an]) {
      expect(reg(call(makeTd(), leaf), GPR.R10)).toBe(UNSUPPORTED);
    }
  });

  it("GetTdVmCallInfo 0 is answered with zeros, 1 by user space, others refused", () => {
    const td = makeTd();
    const back = call(td, 0x10000, [0, 5, 6]);
    expect([GPR.R10, GPR.R11, GPR.R12, GPR.R13, GPR.R14].map((r) => reg(back, r))).toEqual([0n, 0n, 0n, 0n, 0n]);
    td.machine.guest.push(tdvmcall(0x10000, [1]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.TDX);
    expect(td.vcpu.kvmRun.tdx).toMatchObject({ nr: 0x10000, ret: 0n });
    td.vcpu.kvmRun.tdx.getTdvmcallInfo.r11 = 3n;
    expect(reg(goOn(td), GPR.R11)).toBe(3n);
    expect(reg(call(td, 0x10000, [2]), GPR.R10)).toBe(INVALID_OPERAND);
  });

  it("GetQuote needs a shared buffer and has a sane default", () => {
    const td = makeTd();
    expect(reg(call(td, 0x10002, [0x1000, 0x2000]), GPR.R10)).toBe(INVALID_OPERAND);
    td.machine.guest.push(tdvmcall(0x10002, [SHARED | 0x1000n, 0x2000]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.tdx).toMatchObject({ nr: 0x10002, getQuote: { gpa: 0x1000n, size: 0x2000n } });
    expect(reg(goOn(td), GPR.R10)).toBe(UNSUPPORTED);
  });

  it("SetupEventNotifyInterrupt takes vectors 32 to 255", () => {
    const td = makeTd();
    for (const vector of [31, 256]) expect(reg(call(td, 0x10004, [vector]), GPR.R10)).toBe(INVALID_OPERAND);
    td.machine.guest.push(tdvmcall(0x10004, [0x50]));
    expect(td.vcpu.run()).toBe(0);
    expect(td.vcpu.kvmRun.tdx.setupEventNotify.vector).toBe(0x50n);
    td.vcpu.kvmRun.tdx.ret = 0n;
    expect(reg(goOn(td), GPR.R10)).toBe(0n);
  });

  it("ReportFatalError hands over the registers in the order of their numbers", () => {
    const td = makeTd();
    td.machine.guest.push((regs, lp) => {
      tdvmcall(0x10003, [0x8000000000000001n, 0n, 0x55n])(regs, lp);
      regs[GPR.RBX] = 0xb0n;
      regs[GPR.RSP] = 0x5n;
    });
    expect(td.vcpu.run()).toBe(0);
    const { exitReason, systemEvent } = td.vcpu.kvmRun;
    expect(exitReason).toBe(KVM_EXIT.SYSTEM_EVENT);
    expect(systemEvent).toMatchObject({ type: 7, ndata: 16 });
    expect([...systemEvent.data]).toEqual([
      77n,
      0xffccn,
      0n,
      0xb0n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0x10003n,
      0x8000000000000001n,
      0n,
      0x55n,
      0n,
    ]);
    expect(reg(goOn(td), GPR.R10)).toBe(0n);
  });
});

describe("MapGPA", () => {
  const start = (td: FakeTd, gpa: bigint, size: bigint): void => {
    td.machine.guest.push(tdvmcall(0x10001, [gpa, size]));
    expect(td.vcpu.run()).toBe(0);
  };

  it.each([
    ["size 0", 0x1000n, 0n, INVALID_OPERAND],
    ["wrap", 0xffff_ffff_ffff_f000n, 0x2000n, INVALID_OPERAND],
    ["beyond MAXPHYADDR", 1n << 52n, 0x1000n, INVALID_OPERAND],
    ["ends that differ in the shared bit", SHARED - 0x1000n, 0x2000n, INVALID_OPERAND],
    ["unaligned start", 0x1001n, 0x1000n, ALIGN_ERROR],
    ["unaligned size", 0x1000n, 0x1001n, ALIGN_ERROR],
  ])("refuses %s and gives the address back", (_name, gpa, size, status) => {
    const back = call(makeTd(), 0x10001, [gpa, size]);
    expect([reg(back, GPR.R10), reg(back, GPR.R11)]).toEqual([status, gpa]);
  });

  it("is unsupported while user space did not ask for the exit", () => {
    const td = makeTd();
    td.vm.enableCap({ cap: KVM_CAP.EXIT_HYPERCALL, args: [0] });
    expect(reg(call(td, 0x10001, [0x1001n, 0n]), GPR.R10)).toBe(UNSUPPORTED);
  });

  it("goes in chunks of 2 MiB from its start", () => {
    const td = makeTd();
    start(td, SHARED | 0x1000n, 0x201000n);
    const { kvmRun } = td.vcpu;
    expect(kvmRun.exitReason).toBe(KVM_EXIT.HYPERCALL);
    expect(kvmRun.hypercall).toMatchObject({ nr: 12, ret: 0n, flags: 1 });
    expect([...kvmRun.hypercall.args.slice(0, 3)]).toEqual([0x1000n, 0x200n, 0n]);
    expect(td.vcpu.run()).toBe(0);
    expect([...kvmRun.hypercall.args.slice(0, 3)]).toEqual([0x201000n, 1n, 0n]);
    const back = goOn(td);
    expect([reg(back, GPR.R10), reg(back, GPR.R11)]).toEqual([0n, 0x10001n]);
  });

  it("asks for private memory by the attribute", () => {
    const td = makeTd();
    start(td, 0x3000n, 0x1000n);
    expect([...td.vcpu.kvmRun.hypercall.args.slice(0, 3)]).toEqual([0x3000n, 1n, 0x10n]);
  });

  it.each([
    [11n, "fixed", 1n],
    [22n, "fixed", INVALID_OPERAND],
    [11n, "linux-6.16", INVALID_OPERAND],
    [5n, "linux-6.16", INVALID_OPERAND],
  ] as const)("user space's error %s on %s", (ret, profile, status) => {
    const td = makeTd({ profile });
    start(td, SHARED | 0x1000n, 0x1000n);
    td.vcpu.kvmRun.hypercall.ret = ret;
    const back = goOn(td);
    expect([reg(back, GPR.R10), reg(back, GPR.R11)]).toEqual([status, SHARED | 0x1000n]);
  });

  it("an error that user space must not give fails KVM_RUN", () => {
    const td = makeTd();
    start(td, SHARED | 0x1000n, 0x1000n);
    td.vcpu.kvmRun.hypercall.ret = 5n;
    expect(td.vcpu.run()).toBe(-ERRNO.EINVAL);
  });

  it("lets an interrupt in between chunks", () => {
    const td = makeTd();
    start(td, SHARED, 0x400000n);
    td.vcpu.nmi();
    const back = goOn(td);
    expect([reg(back, GPR.R10), reg(back, GPR.R11)]).toEqual([1n, SHARED | 0x200000n]);
  });
});

describe("vendor hypercalls", () => {
  it("unknown ones fail with KVM_ENOSYS", () => {
    const td = makeTd();
    expect(reg(call(td, 0, [], 99n), GPR.R10)).toBe(BigInt.asUintN(64, -1000n));
    expect(reg(call(td, 0, [], 1n), GPR.R10)).toBe(0n);
    expect(td.vcpu.stats.hypercalls).toBe(2);
  });

  it("the paravirtual ones need their feature bit", () => {
    const td = makeTd();
    expect(reg(call(td, 0, [0], 5n), GPR.R10)).toBe(BigInt.asUintN(64, -1000n));
  });
});

it("resumes an asynchronous exit with the registers as the module left them", () => {
  const td = makeTd();
  const back: bigint[] = [];
  td.machine.guest.push(asyncExit(6n), capture(back));
  td.vcpu.run();
  expect(reg(back, GPR.RCX)).toBe(BigInt(td.vcpu.tdVcpu.tdvpr));
});
