import { PAGE_META } from "../../cpu/layout.js";
import type { SeamMemory } from "../seam.js";
import type { PhysicalMemory } from "./physical-memory.js";

const READ = PAGE_META.KEY_ID_MASK | PAGE_META.ODD;
const WRITE = READ | PAGE_META.CODE | PAGE_META.UNTOUCHED_ZERO;

/** Physical memory as SEAM root sees it: `SeamMemory` says what holds. */
export class SeamMemoryView implements SeamMemory {
  readonly #memory: PhysicalMemory;
  readonly #view: DataView;
  readonly #meta: Uint32Array;
  readonly #firstPrivateKeyId: number;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
    this.#view = memory.view;
    this.#meta = memory.meta;
    this.#firstPrivateKeyId = memory.firstPrivateKeyId;
  }

  get size(): number {
    return this.#memory.size;
  }

  #readable(hpa: number, keyId: number): boolean {
    const owner = keyId >= this.#firstPrivateKeyId ? keyId : 0;
    return ((this.#meta[hpa >>> 12] as number) & READ) === owner;
  }
  #writable(hpa: number, keyId: number): boolean {
    const owner = keyId >= this.#firstPrivateKeyId ? keyId : 0;
    return ((this.#meta[hpa >>> 12] as number) & WRITE) === owner;
  }
  #load(hpa: number, length: number, keyId: number): DataView {
    return new DataView(this.#memory.load(hpa, length, keyId, "seam").buffer);
  }
  #claim(hpa: number, length: number, keyId: number): boolean {
    this.#memory.check(hpa, length);
    if (this.#memory.isSmram(hpa >>> 12)) return false;
    this.#memory.claim(hpa, length, this.#memory.ownerOf(keyId));
    return true;
  }

  read8(hpa: number, keyId: number): number {
    return this.#readable(hpa, keyId) ? this.#view.getUint8(hpa) : this.#load(hpa, 1, keyId).getUint8(0);
  }
  read16(hpa: number, keyId: number): number {
    return this.#readable(hpa, keyId) ? this.#view.getUint16(hpa, true) : this.#load(hpa, 2, keyId).getUint16(0, true);
  }
  read32(hpa: number, keyId: number): number {
    return this.#readable(hpa, keyId) ? this.#view.getUint32(hpa, true) : this.#load(hpa, 4, keyId).getUint32(0, true);
  }
  read64(hpa: number, keyId: number): bigint {
    if (this.#readable(hpa, keyId)) return this.#view.getBigUint64(hpa, true);
    return this.#load(hpa, 8, keyId).getBigUint64(0, true);
  }
  write8(hpa: number, value: number, keyId: number): void {
    if (this.#writable(hpa, keyId) || this.#claim(hpa, 1, keyId)) this.#view.setUint8(hpa, value);
  }
  write16(hpa: number, value: number, keyId: number): void {
    if (this.#writable(hpa, keyId) || this.#claim(hpa, 2, keyId)) this.#view.setUint16(hpa, value, true);
  }
  write32(hpa: number, value: number, keyId: number): void {
    if (this.#writable(hpa, keyId) || this.#claim(hpa, 4, keyId)) this.#view.setUint32(hpa, value, true);
  }
  write64(hpa: number, value: bigint, keyId: number): void {
    if (this.#writable(hpa, keyId) || this.#claim(hpa, 8, keyId)) this.#view.setBigUint64(hpa, value, true);
  }
  read(hpa: number, length: number, keyId: number): Uint8Array {
    return this.#memory.load(hpa, length, keyId, "seam");
  }
  write(hpa: number, bytes: Uint8Array, keyId: number): void {
    this.#memory.store(hpa, bytes, keyId);
  }
  fill(hpa: number, length: number, value: number, keyId: number): void {
    this.#memory.fill(hpa, length, value, keyId);
  }
  copy(fromHpa: number, fromKeyId: number, toHpa: number, toKeyId: number, length: number): void {
    this.#memory.copy(fromHpa, fromKeyId, toHpa, toKeyId, length, "seam");
  }
}
