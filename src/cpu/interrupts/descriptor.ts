import { RIGHTS } from "../../arch/x86.js";
import { CpuException, VECTOR } from "../faults.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "../layout.js";
import type { Segment } from "../state.js";
import type { CpuEnvironment } from "../system/environment.js";

/** A segment or system descriptor from GDT or LDT. */
export interface Descriptor {
  readonly selector: number;
  /** Linear address of the descriptor. */
  readonly address: bigint;
  readonly low: number;
  readonly high: number;
  /** Access rights in VMX layout. */
  readonly rights: number;
  readonly base: bigint;
  readonly limit: number;
}

export const dplOf = (rights: number): number => (rights >> RIGHTS.DPL_SHIFT) & 3;

/** The descriptor of a selector that is not null; `vector` with the selector as error code if it is beyond its table. */
export function readDescriptor(environment: CpuEnvironment, selector: number, vector: number, ext = 0): Descriptor {
  const { state, linear } = environment;
  const fault = (): CpuException => new CpuException(vector, (selector & 0xfffc) | ext);
  let table: bigint;
  let tableLimit: number;
  if (selector & 4) {
    const ldtr = REG.SEGMENTS + SEGMENT.LDTR * SEG_SIZE;
    if (state.get32(ldtr + SEG.RIGHTS) & RIGHTS.UNUSABLE) throw fault();
    table = state.get(ldtr + SEG.BASE);
    tableLimit = state.get32(ldtr + SEG.LIMIT);
  } else {
    table = state.get(REG.GDTR_BASE);
    tableLimit = state.get32(REG.GDTR_LIMIT);
  }
  if ((selector | 7) > tableLimit) throw fault();
  const address = BigInt.asUintN(64, table + BigInt(selector & 0xfff8));
  const raw = linear.read(address, 8, true);
  const low = Number(raw & 0xffff_ffffn);
  const high = Number(raw >> 32n);
  const rights = ((high >>> 8) & 0xff) | ((high >>> 8) & 0xf000);
  const raw20 = (low & 0xffff) | (high & 0xf_0000);
  const limit = rights & RIGHTS.G ? ((raw20 << 12) | 0xfff) >>> 0 : raw20;
  const base = BigInt(((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0);
  return { selector, address, low, high, rights, base, limit };
}

/** Base of a 16-byte system descriptor in IA-32e mode. */
export function longBase(environment: CpuEnvironment, descriptor: Descriptor): bigint {
  const upper = environment.linear.read(descriptor.address + 8n, 4, true);
  return descriptor.base | (upper << 32n);
}

/** Sets the accessed bit in memory if it is clear, and gives the segment register's value. */
export function accessed(environment: CpuEnvironment, descriptor: Descriptor, selector = descriptor.selector): Segment {
  if (!(descriptor.rights & RIGHTS.ACCESSED)) {
    const byte = (descriptor.high >>> 8) & 0xff;
    environment.linear.write(descriptor.address + 5n, 1, BigInt(byte | 1), true);
  }
  return { selector, base: descriptor.base, limit: descriptor.limit, rights: descriptor.rights | RIGHTS.ACCESSED };
}

/** What a data segment register holds after a null selector. */
export function nullSegment(selector: number, dpl = 0): Segment {
  return { selector, base: 0n, limit: 0, rights: RIGHTS.UNUSABLE | (dpl << RIGHTS.DPL_SHIFT) };
}

export const notPresent = (selector: number): CpuException => new CpuException(VECTOR.NP, selector & 0xfffc);
