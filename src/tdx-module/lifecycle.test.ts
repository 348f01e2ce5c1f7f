import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { LIFECYCLE, OPERAND, PAGE_TYPE, TDH } from "../arch/tdx-abi.js";
import { TD_FIELD, VP_FIELD } from "../arch/tdx-metadata.js";
import { TDX_STATUS } from "../arch/tdx-status.js";
import { GPR } from "../platform/seam.js";
import { GLOBAL_KEYID, KEYID_SHIFT, TestHost } from "./testing.js";

const operandRegister = (status: bigint, register: number): bigint => status | BigInt(register);

/** MRTD as anybody can compute it from what the host did. */
class ExpectedMrtd {
  readonly #hash = createHash("sha384");
  block(name: string, gpa: number): this {
    const block = Buffer.alloc(128);
    block.write(name, 0, "ascii");
    block.writeBigUInt64LE(BigInt(gpa), 16);
    this.#hash.update(block);
    return this;
  }
  data(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    return this;
  }
  digest(): Buffer {
    return this.#hash.digest();
  }
}

describe("life of a TD by the SEAMCALLs of KVM", () => {
  const PAGE = 0x1000;

  it("is created, built, measured, run, torn down; every page comes back", () => {
    const host = new TestHost({}, 2, 2).bringUp();
    const td = host.createTd();
    expect(host.must(TDH.MNG_RD, { RCX: td.tdr, RDX: 0x110000000000000an })[GPR.R8]).not.toBe(0n);
    const tdvpr = td.addVcpu();
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 2, R8: 0xf2, R9: 0xffff });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x2016, R8: 0x5000, R9: (1n << 64n) - 1n });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x4000, R8: 0x80, R9: 0x80 });
    host.must(TDH.VP_WR, { RCX: tdvpr, RDX: 0x203c, R8: 0x6000, R9: (1n << 64n) - 1n });

    const content = Uint8Array.from({ length: PAGE }, (_, i) => (i * 7) & 0xff);
    const expected = new ExpectedMrtd();
    for (const gpa of [0xfffff000, 0x1000]) {
      td.addTables(gpa);
      td.addPage(gpa, content);
      expected.block("MEM.PAGE.ADD", gpa);
    }
    for (let chunk = 0; chunk < 16; chunk++) {
      host.must(TDH.MR_EXTEND, { RCX: 0xfffff000 + chunk * 256, RDX: td.tdr });
      expected.block("MR.EXTEND", 0xfffff000 + chunk * 256).data(content.subarray(chunk * 256, chunk * 256 + 256));
    }
    host.must(TDH.MR_FINALIZE, { RCX: td.tdr });
    const mrtd = Buffer.alloc(48);
    for (let i = 0; i < 6; i++) {
      mrtd.writeBigUInt64LE(
        host.must(TDH.MNG_RD, { RCX: td.tdr, RDX: TD_FIELD.MRTD + BigInt(i) })[GPR.R8] as bigint,
        i * 8,
      );
    }
    expect(mrtd.toString("hex")).toBe(expected.digest().toString("hex"));

    const augmented = td.augPage(0x2000);
    expect(td.enter([{ reason: 1, interruptionInfo: 0x800000f2 }]).status).toBe(1n);

    // Private to shared while the TD lives.
    host.must(TDH.MEM_RANGE_BLOCK, { RCX: 0x2000, RDX: td.tdr });
    host.must(TDH.MEM_TRACK, { RCX: td.tdr });
    const removed = host.must(TDH.MEM_PAGE_REMOVE, { RCX: 0x2000, RDX: td.tdr });
    expect(removed[GPR.RCX]).toBe(BigInt(augmented));
    td.pages.delete(0x2000);
    const withKey = augmented + td.hkid * 2 ** KEYID_SHIFT;
    host.must(TDH.PHYMEM_PAGE_WBINVD, { RCX: withKey });

    // Teardown: the KeyID first, then the pages, TDR last.
    const notDone = host.seamcall(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    expect(notDone.status).toBe(TDX_STATUS.FLUSHVP_NOT_DONE);
    host.lp = host.lps[1] as never;
    expect(host.seamcall(TDH.VP_FLUSH, { RCX: tdvpr }).status).toBe(TDX_STATUS.VCPU_NOT_ASSOCIATED);
    host.lp = host.lps[0] as never;
    host.must(TDH.VP_FLUSH, { RCX: tdvpr });
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    expect(host.seamcall(TDH.MNG_KEY_FREEID, { RCX: td.tdr }).status).toBe(TDX_STATUS.WBCACHE_NOT_COMPLETE);
    host.onEachPackage(() => host.must(TDH.PHYMEM_CACHE_WB));
    expect(host.seamcall(TDH.PHYMEM_CACHE_WB).status).toBe(TDX_STATUS.NO_HKID_READY_TO_WBCACHE);
    host.must(TDH.MNG_KEY_FREEID, { RCX: td.tdr });
    host.must(TDH.MNG_KEY_RECLAIMID, { RCX: td.tdr });
    expect(host.seamcall(TDH.PHYMEM_PAGE_RECLAIM, { RCX: td.tdr }).status).toBe(TDX_STATUS.TD_ASSOCIATED_PAGES_EXIST);
    for (const [pages, type] of [
      [[...td.pages.values()], PAGE_TYPE.REG],
      [td.tables, PAGE_TYPE.EPT],
      [[tdvpr], PAGE_TYPE.TDVPR],
      [[...td.tdvpx, ...td.tdcx], PAGE_TYPE.TDCX],
    ] as const) {
      for (const page of pages) {
        const gprs = host.must(TDH.PHYMEM_PAGE_RECLAIM, { RCX: page });
        expect([gprs[GPR.RCX], gprs[GPR.RDX], gprs[GPR.R8]]).toEqual([BigInt(type), BigInt(td.tdr), 0n]);
      }
    }
    host.must(TDH.PHYMEM_PAGE_RECLAIM, { RCX: td.tdr });
    host.must(TDH.PHYMEM_PAGE_WBINVD, { RCX: td.tdr + GLOBAL_KEYID * 2 ** KEYID_SHIFT });
    const free = host.seamcall(TDH.PHYMEM_PAGE_RECLAIM, { RCX: td.tdr });
    expect(free.status).toBe(operandRegister(TDX_STATUS.PAGE_METADATA_INCORRECT, GPR.RCX));
    // The KeyID can be given to another TD.
    host.must(TDH.MNG_CREATE, { RCX: host.page(), RDX: td.hkid });
  });

  it("keeps a TD's control structures from the host, and from a wrong KeyID", () => {
    const host = new TestHost().bringUp();
    const td = host.runnableTd();
    expect(host.memory.read64(td.tdr, 0)).toBe(0n);
    expect(host.memory.owner[td.tdr / 64]).toBe(GLOBAL_KEYID);
    expect(host.memory.owner[(td.tdcx[0] as number) / 64]).toBe(td.hkid);
    expect(() => host.memory.read64(td.tdcx[0] as number, td.hkid + 1)).toThrow();
  });
});

describe("creation", () => {
  it("checks page and KeyID", () => {
    const host = new TestHost().bringUp();
    const create = (RCX: number, RDX: number): bigint => host.seamcall(TDH.MNG_CREATE, { RCX, RDX }).status;
    const page = host.page();
    expect(create(page + 1, 40)).toBe(operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.RCX));
    expect(create(page + 40 * 2 ** KEYID_SHIFT, 40)).toBe(operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.RCX));
    expect(create(page, 1)).toBe(operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.RDX));
    expect(create(page, GLOBAL_KEYID)).toBe(TDX_STATUS.HKID_NOT_FREE);
    expect(create(page, 40)).toBe(0n);
    expect(create(page, 41)).toBe(operandRegister(TDX_STATUS.PAGE_METADATA_INCORRECT, GPR.RCX));
    expect(create(host.page(), 40)).toBe(TDX_STATUS.HKID_NOT_FREE);
  });

  it("asks for keys, then for pages, then for the right state", () => {
    const host = new TestHost({}, 2, 2).bringUp();
    const tdr = host.page();
    host.must(TDH.MNG_CREATE, { RCX: tdr, RDX: 40 });
    const addcx = (): bigint => host.seamcall(TDH.MNG_ADDCX, { RCX: host.page(), RDX: tdr }).status;
    host.must(TDH.MNG_KEY_CONFIG, { RCX: tdr });
    expect(host.seamcall(TDH.MNG_KEY_CONFIG, { RCX: tdr }).status).toBe(TDX_STATUS.KEY_CONFIGURED);
    expect(addcx()).toBe(TDX_STATUS.TD_KEYS_NOT_CONFIGURED);
    host.lp = host.lps[1] as never;
    host.must(TDH.MNG_KEY_CONFIG, { RCX: tdr });
    expect(host.seamcall(TDH.MNG_KEY_CONFIG, { RCX: tdr }).status).toBe(TDX_STATUS.LIFECYCLE_STATE_INCORRECT);
    for (let i = 0; i < 5; i++) expect(addcx()).toBe(0n);
    const init = { RCX: tdr, RDX: host.params() };
    expect(host.seamcall(TDH.MNG_INIT, init).status).toBe(TDX_STATUS.TDCS_NOT_ALLOCATED);
    for (let i = 0; i < 4; i++) expect(addcx()).toBe(0n);
    expect(addcx()).toBe(TDX_STATUS.TDCX_NUM_INCORRECT);
    host.must(TDH.MNG_INIT, init);
    expect(host.seamcall(TDH.MNG_INIT, init).status).toBe(TDX_STATUS.OP_STATE_INCORRECT);
    expect(addcx()).toBe(TDX_STATUS.OP_STATE_INCORRECT);
    expect(host.seamcall(TDH.VP_ENTER, { RCX: tdr }).status).toBe(
      operandRegister(TDX_STATUS.PAGE_METADATA_INCORRECT, GPR.RCX),
    );
  });

  it.each([
    ["attributes", { attributes: 1n << 29n }, OPERAND.ATTRIBUTES],
    ["XFAM", { xfam: 7n }, OPERAND.XFAM],
    ["XFAM without SSE", { xfam: 1n }, OPERAND.XFAM],
    ["no vCPU", { maxVcpus: 0 }, OPERAND.MAX_VCPUS],
    ["page walk", { eptpControls: 0x26 }, OPERAND.EPTP_CONTROLS],
    ["memory type", { eptpControls: 0x18 }, OPERAND.EPTP_CONTROLS],
    ["GPAW of a 4-level walk", { configFlags: 5n }, OPERAND.EXEC_CONTROLS],
    ["flags", { configFlags: 8n }, OPERAND.EXEC_CONTROLS],
    ["TSC", { tscFrequency: 3 }, OPERAND.TSC_FREQUENCY],
  ])("refuses TD_PARAMS: %s", (_name, params, operand) => {
    const host = new TestHost().bringUp();
    expect(() => host.createTd(params)).toThrow(`0x${(TDX_STATUS.OPERAND_INVALID | operand).toString(16)}`);
  });

  it("names the CPUID leaf that it refuses", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd();
    const tdr = host.page();
    host.must(TDH.MNG_CREATE, { RCX: tdr, RDX: td.hkid + 1 });
    host.must(TDH.MNG_KEY_CONFIG, { RCX: tdr });
    for (let i = 0; i < 6; i++) host.must(TDH.MNG_ADDCX, { RCX: host.page(), RDX: tdr });
    const cpuid = new Array<number>(48).fill(0);
    cpuid[5 * 4] = 1;
    const result = host.seamcall(TDH.MNG_INIT, { RCX: tdr, RDX: host.params({ cpuid }) });
    expect(result.status).toBe(TDX_STATUS.OPERAND_INVALID | OPERAND.CPUID_CONFIG);
    expect(result.gprs[GPR.RCX]).toBe(7n);
  });
});

describe("vCPUs", () => {
  it("need all pages, a free index and an x2APIC id of their own", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd({ maxVcpus: 2 });
    const tdvpr = host.page();
    host.must(TDH.VP_CREATE, { RCX: tdvpr, RDX: td.tdr });
    expect(host.seamcall(TDH.VP_INIT, { RCX: tdvpr }, 1).status).toBe(TDX_STATUS.TDCX_NUM_INCORRECT);
    td.addVcpu();
    const other = host.page();
    host.must(TDH.VP_CREATE, { RCX: other, RDX: td.tdr });
    for (let i = 0; i < 5; i++) host.must(TDH.VP_ADDCX, { RCX: host.page(), RDX: other });
    expect(host.seamcall(TDH.VP_ADDCX, { RCX: host.page(), RDX: other }).status).toBe(TDX_STATUS.TDCX_NUM_INCORRECT);
    expect(host.seamcall(TDH.VP_INIT, { RCX: other, R8: 0 }, 1).status).toBe(TDX_STATUS.X2APIC_ID_NOT_UNIQUE);
    expect(host.seamcall(TDH.VP_INIT, { RCX: other, R8: 1n << 32n }, 1).status).toBe(
      operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.R8),
    );
    host.must(TDH.VP_INIT, { RCX: other, R8: 7 }, 1);
    expect(host.seamcall(TDH.VP_INIT, { RCX: tdvpr }, 1).status).toBe(TDX_STATUS.MAX_VCPUS_EXCEEDED);
    expect(host.must(TDH.VP_RD, { RCX: other, RDX: VP_FIELD.VCPU_INDEX })[GPR.R8]).toBe(1n);
  });

  it("of version 0 take the topology away", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd();
    const topology = (): bigint =>
      host.must(TDH.MNG_RD, { RCX: td.tdr, RDX: TD_FIELD.TOPOLOGY_ENUM_CONFIGURED })[GPR.R8] as bigint;
    expect(topology()).toBe(1n);
    const tdvpr = host.page();
    host.must(TDH.VP_CREATE, { RCX: tdvpr, RDX: td.tdr });
    for (let i = 0; i < 5; i++) host.must(TDH.VP_ADDCX, { RCX: host.page(), RDX: tdvpr });
    host.must(TDH.VP_INIT, { RCX: tdvpr });
    expect(topology()).toBe(0n);
  });

  it("are needed to finalise", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd();
    expect(host.seamcall(TDH.MR_FINALIZE, { RCX: td.tdr }).status).toBe(TDX_STATUS.NO_VCPUS);
  });
});

describe("cache write-back", () => {
  it("stops for an interrupt and goes on", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd();
    expect(host.seamcall(TDH.PHYMEM_CACHE_WB, { RCX: 1 }).status).toBe(TDX_STATUS.WBCACHE_RESUME_ERROR);
    expect(host.seamcall(TDH.PHYMEM_CACHE_WB, { RCX: 2 }).status).toBe(
      operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.RCX),
    );
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    host.lp.pending = 4;
    let status = host.seamcall(TDH.PHYMEM_CACHE_WB).status;
    let calls = 1;
    while (status === TDX_STATUS.INTERRUPTED_RESUMABLE) {
      status = host.seamcall(TDH.PHYMEM_CACHE_WB, { RCX: 1 }).status;
      calls++;
    }
    expect([status, calls]).toEqual([0n, 4]);
    host.must(TDH.MNG_KEY_FREEID, { RCX: td.tdr });
  });

  it("looks at a plain interrupt only if the caller has them enabled", () => {
    const host = new TestHost().bringUp();
    const td = host.createTd();
    host.must(TDH.MNG_VPFLUSHDONE, { RCX: td.tdr });
    host.lp.pending = 1;
    host.lp.callerInterruptFlag = false;
    host.must(TDH.PHYMEM_CACHE_WB);
  });
});

it("MR.EXTEND tells a missing table from a missing page", () => {
  const host = new TestHost().bringUp();
  const td = host.createTd();
  const extend = (gpa: number): bigint => host.seamcall(TDH.MR_EXTEND, { RCX: gpa, RDX: td.tdr }).status;
  expect(extend(0x1000)).toBe(operandRegister(TDX_STATUS.EPT_ENTRY_NOT_PRESENT, GPR.RCX));
  td.addTables(0x1000);
  expect(extend(0x1000)).toBe(TDX_STATUS.EPT_ENTRY_NOT_PRESENT);
  expect(extend(0x1080)).toBe(operandRegister(TDX_STATUS.OPERAND_INVALID, GPR.RCX));
  expect(host.must(TDH.MNG_RD, { RCX: td.tdr, RDX: TD_FIELD.LIFECYCLE_STATE })[GPR.R8]).toBe(
    BigInt(LIFECYCLE.KEYS_CONFIGURED),
  );
});
