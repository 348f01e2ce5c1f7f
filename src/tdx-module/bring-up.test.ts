import { describe, expect, it } from "vitest";
import { MSR } from "../arch/msr.js";
import { SYS_STATE, TDH, TDMR_INFO, TDSYSINFO } from "../arch/tdx-abi.js";
import { METADATA_NULL_ID, SYS_FIELD } from "../arch/tdx-metadata.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR } from "../platform/seam.js";
import { GLOBAL_KEYID, TestHost } from "./testing.js";

const invalid = (register: number): bigint => TDX_STATUS.OPERAND_INVALID | BigInt(register);

describe("dispatch", () => {
  it("refuses reserved bits, versions and leaves with RAX", () => {
    const host = new TestHost().bringUp();
    expect(host.raw(1n << 63n).status).toBe(invalid(GPR.RAX));
    expect(host.raw(1n << 24n).status).toBe(invalid(GPR.RAX));
    expect(host.seamcall(TDH.MEM_PAGE_AUG, {}, 1).status).toBe(invalid(GPR.RAX));
    expect(host.seamcall(TDH.VP_INIT, {}, 2).status).toBe(invalid(GPR.RAX));
    for (const leaf of [TDH.EXPORT_MEM, TDH.SERVTD_BIND, TDH.SYS_UPDATE, 42, 500]) {
      expect(host.seamcall(leaf).status).toBe(invalid(GPR.RAX));
    }
  });

  it("lets only bring-up leaves through before the module is ready", () => {
    const host = new TestHost();
    expect(host.seamcall(TDH.MNG_CREATE).status).toBe(TDX_STATUS.SYS_NOT_READY);
    expect(host.seamcall(TDH.SYS_TDMR_INIT).status).toBe(TDX_STATUS.SYS_NOT_READY);
    expect(host.seamcall(500).status).toBe(TDX_STATUS.SYS_NOT_READY);
    expect(host.seamcall(TDH.SYS_LP_SHUTDOWN).status).toBe(0n);
    host.module.state.sysState = SYS_STATE.SHUTDOWN;
    expect(host.seamcall(TDH.SYS_INIT).status).toBe(TDX_STATUS.SYS_SHUTDOWN);
    expect(host.seamcall(TDH.SYS_LP_SHUTDOWN).status).toBe(0n);
  });

  it("changes no register beside RAX and the outputs", () => {
    const host = new TestHost().bringUp();
    const { gprs } = host.seamcall(TDH.SYS_RD, { RDX: SYS_FIELD.MAX_TDMRS, RBX: 7, RSI: 8, R12: 9, RCX: 10 });
    expect([gprs[GPR.RBX], gprs[GPR.RSI], gprs[GPR.R12], gprs[GPR.RCX]]).toEqual([7n, 8n, 9n, 10n]);
    expect(gprs[GPR.R8]).toBe(64n);
  });
});

describe("bring-up", () => {
  it("goes through its states once, on every LP and package", () => {
    const host = new TestHost({}, 2, 4);
    expect(host.seamcall(TDH.SYS_INIT, { RCX: 1 }).status).toBe(invalid(GPR.RCX));
    expect(host.seamcall(TDH.SYS_LP_INIT).status).toBe(TDX_STATUS.SYS_LP_INIT_NOT_PENDING);
    host.must(TDH.SYS_INIT);
    expect(host.seamcall(TDH.SYS_INIT).status).toBe(TDX_STATUS.SYS_INIT_NOT_PENDING);
    const config = { RCX: host.tdmrArray(), RDX: 1, R8: GLOBAL_KEYID };
    expect(host.seamcall(TDH.SYS_CONFIG, config).status).toBe(TDX_STATUS.SYS_CONFIG_NOT_PENDING);
    for (const lp of host.lps) {
      host.lp = lp;
      host.must(TDH.SYS_LP_INIT);
      expect(host.seamcall(TDH.SYS_LP_INIT).status).toBe(TDX_STATUS.SYS_LP_INIT_DONE);
    }
    expect(host.seamcall(TDH.SYS_KEY_CONFIG).status).toBe(TDX_STATUS.SYS_KEY_CONFIG_NOT_PENDING);
    expect(host.seamcall(TDH.SYS_CONFIG, { ...config, RDX: 0 }).status).toBe(invalid(GPR.RDX));
    expect(host.seamcall(TDH.SYS_CONFIG, { ...config, R8: 3 }).status).toBe(invalid(GPR.R8));
    expect(host.seamcall(TDH.SYS_CONFIG, { ...config, RCX: 0x1001 }).status).toBe(invalid(GPR.RCX));
    host.must(TDH.SYS_CONFIG, config);
    host.must(TDH.SYS_KEY_CONFIG);
    expect(host.seamcall(TDH.SYS_KEY_CONFIG).status).toBe(TDX_STATUS.KEY_CONFIGURED);
    expect(host.seamcall(TDH.SYS_TDMR_INIT).status).toBe(TDX_STATUS.SYS_NOT_READY);
    host.lp = host.lps[0] as never;
    host.must(TDH.SYS_KEY_CONFIG);
    expect(host.module.state.sysState).toBe(SYS_STATE.READY);
  });

  it("initialises a TDMR 4 MiB at a time", () => {
    const host = new TestHost().bringUp();
    expect(host.seamcall(TDH.SYS_TDMR_INIT, { RCX: 1 }).status).toBe(invalid(GPR.RCX));
    let next = 0n;
    let calls = 4;
    while (next !== 0x4000_0000n) {
      next = host.must(TDH.SYS_TDMR_INIT, { RCX: 0 })[GPR.RDX] as bigint;
      calls++;
    }
    expect(calls).toBe(256);
    expect(host.seamcall(TDH.SYS_TDMR_INIT, { RCX: 0 }).status).toBe(TDX_STATUS.TDMR_ALREADY_INITIALIZED);
  });

  it("refuses pages without PAMT and in reserved areas", () => {
    const host = new TestHost().bringUp();
    const rangeError = TDX_STATUS.OPERAND_ADDR_RANGE_ERROR | BigInt(GPR.RCX);
    expect(host.seamcall(TDH.PHYMEM_PAGE_RECLAIM, { RCX: 0x3000_0000 }).status).toBe(rangeError);
    for (let i = 0; i < 252; i++) host.must(TDH.SYS_TDMR_INIT, { RCX: 0 });
    expect(host.seamcall(TDH.MNG_CREATE, { RCX: 0x3000_0000, RDX: 40 }).status).toBe(rangeError);
    expect(host.must(TDH.PHYMEM_PAGE_RDMD, { RCX: 0x3000_0000 })[GPR.RCX]).toBe(1n);
  });

  it.each([
    ["size not whole GiB", (i: DataView) => i.setBigUint64(TDMR_INFO.SIZE, 0x1000n, true), TDX_STATUS.INVALID_TDMR],
    ["PAMT too small", (i: DataView) => i.setBigUint64(TDMR_INFO.PAMT_4K_SIZE, 0x1000n, true), TDX_STATUS.INVALID_PAMT],
    [
      "PAMT outside",
      (i: DataView) => i.setBigUint64(TDMR_INFO.PAMT_4K_BASE, 0x4000_0000n, true),
      TDX_STATUS.PAMT_OUTSIDE_CMRS,
    ],
    [
      "PAMT overlap",
      (i: DataView) => i.setBigUint64(TDMR_INFO.PAMT_4K_BASE, 0x110_0000n, true),
      TDX_STATUS.PAMT_OVERLAP,
    ],
    ["PAMT in use", (i: DataView) => i.setBigUint64(TDMR_INFO.PAMT_1G_BASE, 0x1000n, true), TDX_STATUS.PAMT_OVERLAP],
    ["reserved", (i: DataView) => i.setBigUint64(TDMR_INFO.RESERVED, 1n, true), TDX_STATUS.INVALID_RESERVED_IN_TDMR],
    ["no memory", (i: DataView) => i.setBigUint64(TDMR_INFO.RESERVED + 8, 0n, true), TDX_STATUS.TDMR_OUTSIDE_CMRS],
  ])("refuses a TDMR: %s", (_name, change, status) => {
    const host = new TestHost();
    host.must(TDH.SYS_INIT);
    host.must(TDH.SYS_LP_INIT);
    expect(host.seamcall(TDH.SYS_CONFIG, { RCX: host.tdmrArray(change), RDX: 1, R8: GLOBAL_KEYID }).code).toBe(status);
  });

  it("refuses a platform that differs", () => {
    const host = new TestHost();
    host.machine.msrs.set(MSR.IA32_SMRR_PHYSMASK, 0n);
    expect(host.seamcall(TDH.SYS_INIT).status).toBe(TDX_STATUS.SMRR_NOT_LOCKED);
    host.machine.msrs.set(MSR.IA32_SMRR_PHYSMASK, 1n << 10n);
    host.must(TDH.SYS_INIT);
    host.machine.msrs.set(MSR.IA32_TSC_ADJUST, 5n);
    expect(host.seamcall(TDH.SYS_LP_INIT).status).toBe(TDX_STATUS.INCONSISTENT_MSR | BigInt(MSR.IA32_TSC_ADJUST));
  });
});

describe("system metadata", () => {
  it("has the fields that Linux hosts ask for, with and without the size in the identifier", () => {
    const host = new TestHost().bringUp();
    const read = (id: bigint): bigint => host.must(TDH.SYS_RD, { RDX: id })[GPR.R8] as bigint;
    const features = read(SYS_FIELD.TDX_FEATURES0);
    expect(features & (1n << 18n)).not.toBe(0n);
    expect(features & (1n << 20n)).not.toBe(0n);
    expect(features & 0x87n).toBe(0n);
    expect(read(SYS_FIELD.MAX_VCPUS_PER_TD)).toBe(576n);
    expect(read(SYS_FIELD.TDCS_BASE_SIZE)).toBe(24576n);
    expect(read(SYS_FIELD.NUM_CMRS)).toBe(1n);
    expect(read(SYS_FIELD.CPUID_CONFIG_LEAVES)).toBe(0xffffffff00000001n);
    expect(read(SYS_FIELD.CPUID_CONFIG_LEAVES + 5n)).toBe(7n);
    expect(read(SYS_FIELD.CPUID_CONFIG_VALUES)).toBe(0x00ff00000fff3fffn);
    expect(read(SYS_FIELD.XFAM_FIXED0)).toBe(3n);
    expect(read(0x9900000000000008n)).toBe(576n);
    const unknown = host.seamcall(TDH.SYS_RD, { RDX: 0x1234 });
    expect(unknown.status).toBe(TDX_STATUS.METADATA_FIELD_ID_INCORRECT);
    expect(unknown.gprs[GPR.RDX]).toBe(METADATA_NULL_ID);
  });

  it("can be walked from the first identifier to the last", () => {
    const host = new TestHost().bringUp();
    const first = host.seamcall(TDH.SYS_RD, { RDX: METADATA_NULL_ID });
    expect(first.status).toBe(TDX_STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    let id = first.gprs[GPR.RDX] as bigint;
    let count = 0;
    while (id !== METADATA_NULL_ID) {
      id = host.must(TDH.SYS_RD, { RDX: id })[GPR.RDX] as bigint;
      count++;
    }
    expect(count).toBeGreaterThan(100);
  });

  it("fills the structures of older hosts", () => {
    const host = new TestHost().bringUp();
    const gprs = host.must(TDH.SYS_INFO, { RCX: 0x8000, RDX: 1024, R8: 0x9000, R9: 32 });
    expect([gprs[GPR.RDX], gprs[GPR.R9]]).toEqual([1024n, 32n]);
    const { view } = host.memory;
    expect(view.getUint32(0x8000 + TDSYSINFO.VENDOR_ID, true)).toBe(0x8086);
    expect(view.getUint32(0x8000 + TDSYSINFO.NUM_CPUID_CONFIG, true)).toBe(12);
    expect(view.getBigUint64(0x9008, true)).toBe(24n * 1024n * 1024n);
    const list = host.must(TDH.SYS_RDALL, { RDX: 0xa000, R8: METADATA_NULL_ID });
    expect(list[GPR.R8]).toBe(METADATA_NULL_ID);
    expect(view.getUint16(0xa002, true)).toBeGreaterThan(20);
  });
});
