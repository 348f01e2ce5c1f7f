import { hmac } from "@noble/hashes/hmac.js";
import { _SHA384, sha256, sha384 } from "@noble/hashes/sha2.js";
import { Sha512Blocks } from "./sha512-blocks.js";
import type { Td } from "./structures/td.js";
import { TDCS } from "./structures/tdcs.js";

/** SHA-384 of bytes. */
export const hash384 = (bytes: Uint8Array): Uint8Array => sha384(bytes);

/** The keyed hash that stands for the processor's report MAC (tdx-module facts 9.3). */
export const reportMac = (key: Uint8Array, bytes: Uint8Array): Uint8Array => hmac(sha256, key, bytes);

const WORDS = 8;

/** SHA-384 whose state can leave and come back at block boundaries. */
class ResumableHash extends _SHA384 {
  resume(td: Td): void {
    const words: number[] = [];
    for (let i = 0; i < WORDS; i++) {
      const at = td.tdcs.address(TDCS.MRTD_STATE, i);
      words.push(td.tdcs.memory.read32(at + 4, td.hkid) | 0, td.tdcs.memory.read32(at, td.hkid) | 0);
    }
    this.set(...(words as Parameters<_SHA384["set"]>));
    this.length = td.tdcs.get(TDCS.MRTD_LENGTH);
    this.pos = 0;
    this.finished = false;
  }

  save(td: Td): void {
    const words = this.get();
    for (let i = 0; i < WORDS; i++) {
      const at = td.tdcs.address(TDCS.MRTD_STATE, i);
      td.tdcs.memory.write32(at + 4, (words[i * 2] as number) >>> 0, td.hkid);
      td.tdcs.memory.write32(at, (words[i * 2 + 1] as number) >>> 0, td.hkid);
    }
    td.tdcs.set(TDCS.MRTD_LENGTH, this.length);
  }
}

/** Begins a TD's MRTD. */
export function beginMrtd(td: Td): void {
  new ResumableHash().save(td);
}

let blockHash: Sha512Blocks | undefined;

/** Hashes whole blocks (128 bytes each) into a TD's MRTD: all that comes before its end is whole blocks. */
export function extendMrtd(td: Td, blocks: Uint8Array): void {
  blockHash ??= new Sha512Blocks();
  const { memory } = td.tdcs;
  const at = td.tdcs.address(TDCS.MRTD_STATE, 0);
  for (let i = 0; i < WORDS; i++) blockHash.state[i] = memory.read64(at + i * 8, td.hkid);
  blockHash.update(blocks);
  for (let i = 0; i < WORDS; i++) memory.write64(at + i * 8, blockHash.state[i] as bigint, td.hkid);
  td.tdcs.set(TDCS.MRTD_LENGTH, td.tdcs.get(TDCS.MRTD_LENGTH) + blocks.length);
}

/** Completes a TD's MRTD. */
export function finishMrtd(td: Td): void {
  const last = new ResumableHash();
  last.resume(td);
  td.tdcs.setBytes(TDCS.MRTD, last.digest());
}

/** The block that names an operation on a guest physical address: text at 0, address at 16, zeros (tdx-module facts 9.1). */
export function measurementBlock(operation: "MEM.PAGE.ADD" | "MR.EXTEND", gpa: number, into: Uint8Array): void {
  into.fill(0, 0, 128);
  for (let i = 0; i < operation.length; i++) into[i] = operation.charCodeAt(i);
  new DataView(into.buffer, into.byteOffset).setBigUint64(16, BigInt(gpa), true);
}
