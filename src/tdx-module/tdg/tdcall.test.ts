import { createHash, createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { TDH, TDREPORT } from "../../arch/tdx-abi.js";
import { TD_FIELD, VP_FIELD } from "../../arch/tdx-metadata.js";
import { TDX_STATUS } from "../../arch/tdx-status.js";
import { REG, SEGMENT } from "../../cpu/layout.js";
import { GPR } from "../../platform/seam.js";
import { GLOBAL_KEYID, TestHost, type TestTd } from "../testing.js";

const INTERRUPT = { reason: 1, interruptionInfo: 0x800000f2 };
const GP = 0x80000b0d;
const VE = 0x80000314;
const RCX = BigInt(GPR.RCX);
const ALL = (1n << 64n) - 1n;

const start = (params = {}): { host: TestHost; td: TestTd } => {
  const host = new TestHost().bringUp();
  return { host, td: host.runnableTd(params) };
};
const invalid = (register: number): bigint => TDX_STATUS.OPERAND_INVALID | BigInt(register);

describe("dispatch", () => {
  it("is #GP outside 64-bit mode and above CPL 0", () => {
    const { host, td } = start();
    td.enter([{ reason: 77, instructionLength: 4 }, INTERRUPT]);
    td.enter([
      ({ guest: { state } }) => {
        state.set(REG.EFER, 0xd01n);
        state.setSegment(SEGMENT.CS, { selector: 0x33, base: 0n, limit: 0xffffffff, rights: 0xa0fb });
        state.set32(REG.CPL, 3);
        return { reason: 77, instructionLength: 4 };
      },
      INTERRUPT,
    ]);
    expect(host.lp.injected).toEqual([GP, GP]);
  });

  it("refuses reserved bits, versions and leaves with RAX", () => {
    const { td } = start();
    for (const rax of [1n << 32n, 1n << 24n, 0x1_0001n, 18n, 25n, 99n]) {
      expect(td.tdcall(rax).status).toBe(invalid(GPR.RAX));
    }
  });
});

describe("TDG.VP.INFO", () => {
  it("tells GPAW, attributes, vCPUs and index", () => {
    const { gprs } = start({ maxVcpus: 7 }).td.tdcall(1);
    expect([GPR.RAX, GPR.RCX, GPR.RDX, GPR.R8, GPR.R9, GPR.R10, GPR.R11].map((r) => gprs[r])).toEqual([
      0n,
      48n,
      1n << 28n,
      0x7_0000_0001n,
      0n,
      1n,
      0n,
    ]);
  });
});

describe("TDG.MEM.PAGE.ACCEPT", () => {
  it("clears a pending page and makes it the guest's", () => {
    const { host, td } = start();
    const page = td.augPage(0x5000);
    host.memory.write(page, new Uint8Array(4096).fill(0xcc), 0);
    expect(td.tdcall(6, { RCX: 0x5000 }).status).toBe(0n);
    expect(host.memory.read64(page + 8, td.hkid)).toBe(0n);
    const entry = host.must(TDH.MEM_SEPT_RD, { RCX: 0x5000, RDX: td.tdr });
    expect(entry[GPR.RCX]).toBe((1n << 63n) | BigInt(page) | 0xf7n);
    expect(td.tdcall(6, { RCX: 0x5000 }).status).toBe(TDX_STATUS.PAGE_ALREADY_ACCEPTED);
  });

  it("heals poison: writes are never checked", () => {
    const { host, td } = start();
    const page = td.augPage(0x5000);
    host.memory.poison[page / 64 + 3] = 1;
    expect(td.tdcall(6, { RCX: 0x5000 }).status).toBe(0n);
    expect(host.memory.read64(page + 192, td.hkid)).toBe(0n);
  });

  it.each([
    ["level", 0x5002],
    ["reserved", 0x5010],
    ["alignment", 0x5001],
    ["shared", 2 ** 47],
  ])("refuses %s", (_name, rcx) => {
    expect(start().td.tdcall(6, { RCX: rcx }).status).toBe(invalid(GPR.RCX));
  });

  const leaveAt = (td: TestTd, rcx: number): BigUint64Array =>
    td.enter([
      ({ guest: { state } }) => {
        state.set(REG.EFER, 0xd01n);
        state.setSegment(SEGMENT.CS, { selector: 0x10, base: 0n, limit: 0xffffffff, rights: 0xa09b });
        state.setGpr(GPR.RAX, 6n);
        state.setGpr(GPR.RCX, BigInt(rcx));
        state.rip = 0x1000n;
        return { reason: 77, instructionLength: 4 };
      },
    ]).gprs;

  it("leaves for a page that the host has not added, and is made again", () => {
    const { td } = start();
    const gprs = leaveAt(td, 0x5000);
    // Level asked 0, level found 0, state free, no leaf.
    expect([gprs[GPR.RAX], gprs[GPR.RCX], gprs[GPR.RDX], gprs[GPR.R8]]).toEqual([48n, 2n, 1n, 0x5000n]);
    td.augPage(0x5000);
    td.enter([
      ({ guest: { state } }) => {
        expect(state.rip).toBe(0x1000n);
        return { reason: 77, instructionLength: 4 };
      },
      ({ guest: { state } }) => {
        expect([state.rip, state.gpr(GPR.RAX)]).toEqual([0x1004n, 0n]);
        return INTERRUPT;
      },
    ]);
  });

  it("tells the host what it found: missing table, blocked page, larger pending page", () => {
    const { host, td } = start();
    expect(leaveAt(td, 0x8000_0000)[GPR.RDX]).toBe((2n << 35n) | 1n);
    td.augPage(0x5000);
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x5000, RDX: td.tdr });
    expect(leaveAt(td, 0x5000)[GPR.RDX]).toBe((1n << 46n) | (3n << 38n) | 1n);
    host.must(TDH.MEM_PAGE_AUG, { RCX: 0x20_0001, RDX: td.tdr, R8: host.largePage() });
    expect(leaveAt(td, 0x20_3000)[GPR.RDX]).toBe((1n << 46n) | (2n << 38n) | (1n << 35n) | 1n);
  });

  it("tells the guest to try the other size", () => {
    const { host, td } = start();
    expect(td.tdcall(6, { RCX: 1 }).status).toBe(TDX_STATUS.PAGE_SIZE_MISMATCH | 1n);
    host.must(TDH.MEM_PAGE_AUG, { RCX: 0x20_0001, RDX: td.tdr, R8: host.largePage() });
    expect(td.tdcall(6, { RCX: 0x20_0001 }).status).toBe(0n);
    expect(td.tdcall(6, { RCX: 0x20_5000 }).status).toBe(TDX_STATUS.PAGE_ALREADY_ACCEPTED | 1n);
  });

  it("of a large page goes on where an interrupt has stopped it", () => {
    const { host, td } = start();
    const page = host.largePage();
    host.must(TDH.MEM_PAGE_AUG, { RCX: 0x20_0001, RDX: td.tdr, R8: page });
    host.lp.pending = 4;
    leaveAtWithSmi(td);
    const counter = host.must(TDH.MEM_SEPT_RD, { RCX: 0x20_0001, RDX: td.tdr })[GPR.RCX] as bigint;
    expect(counter & 0x1f_f000n).toBe(0x1000n);
    host.lp.pending = 0;
    td.enter([
      { reason: 77, instructionLength: 4 },
      ({ guest: { state } }) => {
        expect(state.gpr(GPR.RAX)).toBe(0n);
        return INTERRUPT;
      },
    ]);
    const entry = host.must(TDH.MEM_SEPT_RD, { RCX: 0x20_0001, RDX: td.tdr })[GPR.RCX] as bigint;
    expect(entry).toBe((1n << 63n) | BigInt(page) | 0xf7n);
    expect(host.memory.owner[(page + 511 * 4096) / 64]).toBe(td.hkid);
  });

  const leaveAtWithSmi = (td: TestTd): void => {
    td.enter([
      ({ guest: { state } }) => {
        state.set(REG.EFER, 0xd01n);
        state.setSegment(SEGMENT.CS, { selector: 0x10, base: 0n, limit: 0xffffffff, rights: 0xa09b });
        state.setGpr(GPR.RAX, 6n);
        state.setGpr(GPR.RCX, 0x20_0001n);
        return { reason: 77, instructionLength: 4 };
      },
      ({ guest: { state } }) => {
        expect(state.gpr(GPR.RAX)).toBe(6n);
        return { reason: 6 };
      },
    ]);
  };
});

describe("metadata", () => {
  it("answers what Linux asks for, with Linux's identifiers", () => {
    const { td } = start();
    const read = (id: bigint) => {
      const { status, gprs } = td.tdcall(7, { RDX: id, R8: 99 });
      return { status, value: gprs[GPR.R8] };
    };
    expect(read(TD_FIELD.CONFIG_FLAGS)).toEqual({ status: 0n, value: 4n });
    expect(read(TD_FIELD.TD_CTLS)).toEqual({ status: 0n, value: 1n });
    expect(read(0x9100000000000019n)).toEqual({ status: 0n, value: 1n });
    expect(read(0x1110000300000001n)).toEqual({ status: 0n, value: 3n });
    expect(read(0x12345n)).toEqual({ status: TDX_STATUS.METADATA_FIELD_ID_INCORRECT, value: 0n });
    expect(read(TD_FIELD.FATAL)).toEqual({ status: TDX_STATUS.METADATA_FIELD_NOT_READABLE, value: 0n });
    expect(td.tdcall(7, { RCX: 1, RDX: TD_FIELD.XFAM }).status).toBe(invalid(GPR.RCX));
  });

  it("takes Linux's write of NOTIFY_ENABLES and refuses REDUCE_VE as not writable", () => {
    const { td } = start();
    const write = (id: bigint, value: bigint, mask: bigint): bigint =>
      td.tdcall(8, { RDX: id, R8: value, R9: mask }).status;
    expect(write(0x9100000000000010n, 0n, ALL)).toBe(0n);
    expect(write(TD_FIELD.TD_CTLS, 8n, 8n)).toBe(TDX_STATUS.METADATA_FIELD_NOT_WRITABLE);
    expect(write(TD_FIELD.TD_CTLS, 0n, 1n)).toBe(TDX_STATUS.METADATA_FIELD_NOT_WRITABLE);
    expect(write(TD_FIELD.TD_CTLS, 2n, 2n)).toBe(0n);
    expect(write(TD_FIELD.NOTIFY_ENABLES, 2n, ALL)).toBe(TDX_STATUS.METADATA_FIELD_VALUE_NOT_VALID);
    expect(write(TD_FIELD.XFAM, 2n, ALL)).toBe(TDX_STATUS.METADATA_FIELD_NOT_WRITABLE);
  });

  it("gives the old value back, and lets the guest choose what CONFIG_FLAGS leaves to it", () => {
    const { td } = start({ configFlags: 6n, attributes: 0n });
    expect(td.tdcall(8, { RDX: TD_FIELD.TD_CTLS, R8: 1, R9: 1 }).gprs[GPR.R8]).toBe(0n);
    expect(td.tdcall(8, { RDX: TD_FIELD.TD_CTLS, R8: 0, R9: 1 }).gprs[GPR.R8]).toBe(1n);
  });

  it("version 1 walks through all fields", () => {
    const { td } = start();
    const first = td.tdcall(0x1_0007, { RDX: ALL });
    expect(first.status).toBe(TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    const next = td.tdcall(0x1_0007, { RDX: TD_FIELD.ATTRIBUTES });
    expect(next.gprs[GPR.RDX]).toBe(TD_FIELD.XFAM);
  });

  it("of the vCPU and the system", () => {
    const { td } = start();
    expect(td.tdcall(9, { RDX: VP_FIELD.VCPU_INDEX }).gprs[GPR.R8]).toBe(0n);
    expect(td.tdcall(10, { RDX: VP_FIELD.CPUID_USER_VE, R8: 1, R9: 1 }).status).toBe(0n);
    expect(td.tdcall(9, { RDX: VP_FIELD.PEND_NMI }).status).toBe(TDX_STATUS.METADATA_FIELD_NOT_READABLE);
    expect(td.tdcall(11, { RDX: 0x0800000100000004n }).gprs[GPR.R8]).toBe(1n);
    expect(td.tdcall(12, { RDX: 0x1000, R8: ALL }).status).toBe(0n);
  });
});

describe("host metadata", () => {
  it("shows CPUID values by leaf, and no entry for what faults", () => {
    const { host, td } = start();
    const read = (code: number) =>
      host.seamcall(TDH.MNG_RD, { RCX: td.tdr, RDX: TD_FIELD.CPUID_VALUES + BigInt(code) });
    expect(read(0x1fe).gprs[GPR.R8]).toBe((0x756e6547n << 32n) | 0x23n);
    expect(read(7 << 9).status).toBe(0n);
    expect(read((7 << 9) | (3 << 1)).status).toBe(TDX_STATUS.METADATA_FIELD_ID_INCORRECT);
    expect(read((2 << 9) | 0x1fe).status).toBe(TDX_STATUS.METADATA_FIELD_ID_INCORRECT);
    expect(read(0x1_0000 | 0x1fe).gprs[GPR.R8]).toBe(0x80000008n);
  });

  it("tells a pending virtual interrupt by priority", () => {
    const { host, td } = start();
    const tdvpr = td.vcpus[0] as number;
    const details = (): bigint => host.must(TDH.VP_RD, { RCX: tdvpr, RDX: 0x9100000000000100n })[GPR.R8] as bigint;
    const vapic = td.tdvpx[1] as number;
    expect(details()).toBe(0n);
    host.memory.write32(vapic + 0x200 + 0x10, 1 << 1, td.hkid);
    expect(details()).toBe(1n);
    host.memory.write32(vapic + 0x80, 0x20, td.hkid);
    expect(details()).toBe(0n);
    host.memory.write32(vapic + 0x80, 0, td.hkid);
    host.memory.write32(vapic + 0x100 + 0x70, 1, td.hkid);
    expect(details()).toBe(0n);
  });

  it("opens registers to the host of a debug TD only", () => {
    for (const [attributes, status] of [
      [1n << 28n, TDX_STATUS.METADATA_FIELD_NOT_READABLE],
      [1n, 0n],
    ] as const) {
      const { host, td } = start({ attributes });
      td.enter([
        ({ guest: { state } }) => {
          state.setGpr(GPR.RBX, 0x1234n);
          return INTERRUPT;
        },
      ]);
      const result = host.seamcall(TDH.VP_RD, { RCX: td.vcpus[0] as number, RDX: VP_FIELD.GPR + 3n });
      expect(result.status).toBe(status);
      if (status === 0n) expect(result.gprs[GPR.R8]).toBe(0x1234n);
    }
  });
});

describe("measurement registers and reports", () => {
  const sha384 = (...parts: Uint8Array[]): string => {
    const hash = createHash("sha384");
    for (const part of parts) hash.update(part);
    return hash.digest("hex");
  };
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

  it("extend an RTMR and report it with hashes and a MAC", () => {
    const { host, td } = start();
    const page = td.pages.get(0x1000) as number;
    const digest = Uint8Array.from({ length: 48 }, (_, i) => i);
    host.memory.write(page, digest, td.hkid);
    expect(td.tdcall(2, { RCX: 0x1000, RDX: 2 }).status).toBe(0n);
    expect(td.tdcall(2, { RCX: 0x1000, RDX: 4 }).status).toBe(invalid(GPR.RDX));
    expect(td.tdcall(2, { RCX: 0x1020, RDX: 2 }).status).toBe(invalid(GPR.RCX));
    const rtmr = sha384(new Uint8Array(48), digest);

    const data = Uint8Array.from({ length: 64 }, (_, i) => 200 - i);
    host.memory.write(page + 0x400, data, td.hkid);
    expect(td.tdcall(4, { RCX: 0x1800, RDX: 0x1400 }).status).toBe(0n);
    const report = host.memory.read(page + 0x800, 1024, td.hkid);
    const part = (at: number, length: number): Uint8Array => report.subarray(at, at + length);
    expect(report[0]).toBe(0x81);
    expect(hex(part(TDREPORT.REPORTDATA, 64))).toBe(hex(data));
    expect(hex(part(TDREPORT.TDINFO + 208 + 2 * 48, 48))).toBe(rtmr);
    expect(hex(part(TDREPORT.TDINFO + 208, 48))).toBe("00".repeat(48));
    expect(part(TDREPORT.TDINFO + 64, 2)).toEqual(Uint8Array.of(1, 2));
    expect(hex(part(TDREPORT.TEE_INFO_HASH, 48))).toBe(sha384(part(TDREPORT.TDINFO, 512)));
    expect(hex(part(TDREPORT.TEE_TCB_INFO_HASH, 48))).toBe(sha384(part(TDREPORT.TEE_TCB_INFO, 239)));
    const mac = createHmac("sha256", `report key ${GLOBAL_KEYID}`).update(part(0, 224)).digest("hex");
    expect(hex(part(TDREPORT.MAC, 32))).toBe(mac);

    expect(td.tdcall(22, { RCX: 0x1800 }).status).toBe(0n);
    host.memory.write8(page + 0x800 + 130, 1, td.hkid);
    expect(td.tdcall(22, { RCX: 0x1800 }).status).toBe(TDX_STATUS.INVALID_REPORTMACSTRUCT);
  });

  it("refuse bad operands of a report", () => {
    const { td } = start();
    expect(td.tdcall(4, { RCX: 0x1010, RDX: 0x1400 }).status).toBe(invalid(GPR.RCX));
    expect(td.tdcall(4, { RCX: 0x1000, RDX: 0x1410 }).status).toBe(invalid(GPR.RDX));
    expect(td.tdcall(4, { RCX: 0x1000, RDX: 0x1400, R8: 1 }).status).toBe(invalid(GPR.R8));
  });

  const report = (host: TestHost, td: TestTd, rcx: number) =>
    td.enter([
      ({ guest: { state } }) => {
        state.set(REG.EFER, 0xd01n);
        state.setSegment(SEGMENT.CS, { selector: 0x10, base: 0n, limit: 0xffffffff, rights: 0xa09b });
        for (const [register, value] of [
          [GPR.RAX, 4n],
          [GPR.RCX, BigInt(rcx)],
          [GPR.RDX, 0x1000n],
          [GPR.R8, 0n],
        ] as const) {
          state.setGpr(register, value);
        }
        return { reason: 77, instructionLength: 4 };
      },
      () => ({ ...INTERRUPT, interruptionInfo: host.lp.injected.at(-1) ?? 0 }),
    ]).gprs;

  it("reach into shared memory through the host's EPT, and fault as the guest would", () => {
    const { host, td } = start();
    const shared = 2 ** 47 + 0x3000;
    host.must(TDH.VP_WR, { RCX: td.vcpus[0] as number, RDX: VP_FIELD.SHARED_EPTP, R8: 0x10000, R9: ALL });
    for (const [table, next] of [
      [0x10000, 0x11000],
      [0x11000, 0x12000],
      [0x12000, 0x13000],
    ] as const) {
      host.memory.write64(table, BigInt(next | 7), 0);
    }
    // Not there, but not marked for #VE: the host's.
    host.memory.write64(0x13018, 1n << 63n, 0);
    expect(report(host, td, shared)[GPR.RAX]).toBe(48n);
    // Marked: the guest's.
    host.memory.write64(0x13018, 0n, 0);
    expect(report(host, td, shared)[GPR.R9]).toBe(BigInt(VE));
    td.tdcall(3);
    host.memory.write64(0x13018, 0x14037n, 0);
    expect(td.tdcall(4, { RCX: shared, RDX: 0x1000 }).status).toBe(0n);
    expect(host.memory.read8(0x14000, 0)).toBe(0x81);
  });

  it("leave for private memory that is missing or pending", () => {
    const { host, td } = start();
    const missing = report(host, td, 0x5000);
    expect([missing[GPR.RAX], missing[GPR.RCX], missing[GPR.R8]]).toEqual([48n, 2n, 0x5000n]);
    td.augPage(0x5000);
    expect(report(host, td, 0x5000)[GPR.RDX]).toBe(6n);
  });
});

describe("TDG.VP.CPUIDVE.SET", () => {
  it("takes two flags", () => {
    const { td } = start();
    expect(td.tdcall(5, { RCX: 4 }).status).toBe(TDX_STATUS.OPERAND_INVALID | RCX);
    expect(td.tdcall(5, { RCX: 3 }).status).toBe(0n);
  });
});
