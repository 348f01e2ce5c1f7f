import { PAGE_META } from "../../cpu/layout.js";
import type { PhysicalMemory } from "./physical-memory.js";

const READ = PAGE_META.KEY_ID_MASK | PAGE_META.ODD;
const WRITE = READ | PAGE_META.CODE | PAGE_META.UNTOUCHED_ZERO;

/**
 * Physical memory as the host reads and writes it through its direct map (KeyID 0). A TD's lines read as zeros; writing one
 * takes it from the TD; loading poison is a machine check (`HostMachineCheck`). Scalars are little-endian and aligned.
 */
export class HostMemory {
  readonly #memory: PhysicalMemory;
  readonly #view: DataView;
  readonly #meta: Uint32Array;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
    this.#view = memory.view;
    this.#meta = memory.meta;
  }

  /** Bytes of host physical memory. */
  get size(): number {
    return this.#memory.size;
  }

  #readable(hpa: number): boolean {
    return ((this.#meta[hpa >>> 12] as number) & READ) === 0;
  }
  #writable(hpa: number): boolean {
    return ((this.#meta[hpa >>> 12] as number) & WRITE) === 0;
  }
  #load(hpa: number, length: number): DataView {
    return new DataView(this.#memory.load(hpa, length, 0, "host").buffer);
  }
  #claim(hpa: number, length: number): boolean {
    this.#memory.check(hpa, length);
    if (this.#memory.isSmram(hpa >>> 12)) return false;
    this.#memory.claim(hpa, length, 0);
    return true;
  }

  read8(hpa: number): number {
    return this.#readable(hpa) ? this.#view.getUint8(hpa) : this.#load(hpa, 1).getUint8(0);
  }
  read16(hpa: number): number {
    return this.#readable(hpa) ? this.#view.getUint16(hpa, true) : this.#load(hpa, 2).getUint16(0, true);
  }
  read32(hpa: number): number {
    return this.#readable(hpa) ? this.#view.getUint32(hpa, true) : this.#load(hpa, 4).getUint32(0, true);
  }
  read64(hpa: number): bigint {
    return this.#readable(hpa) ? this.#view.getBigUint64(hpa, true) : this.#load(hpa, 8).getBigUint64(0, true);
  }
  write8(hpa: number, value: number): void {
    if (this.#writable(hpa) || this.#claim(hpa, 1)) this.#view.setUint8(hpa, value);
  }
  write16(hpa: number, value: number): void {
    if (this.#writable(hpa) || this.#claim(hpa, 2)) this.#view.setUint16(hpa, value, true);
  }
  write32(hpa: number, value: number): void {
    if (this.#writable(hpa) || this.#claim(hpa, 4)) this.#view.setUint32(hpa, value, true);
  }
  write64(hpa: number, value: bigint): void {
    if (this.#writable(hpa) || this.#claim(hpa, 8)) this.#view.setBigUint64(hpa, value, true);
  }
  /** A copy of `length` bytes. */
  read(hpa: number, length: number): Uint8Array {
    return this.#memory.load(hpa, length, 0, "host");
  }
  write(hpa: number, bytes: Uint8Array): void {
    this.#memory.store(hpa, bytes, 0);
  }
  /** Fills whole lines (MOVDIR64B): they become the host's, and clean. */
  fill(hpa: number, length: number, value: number): void {
    this.#memory.fill(hpa, length, value, 0);
  }
  /** Copies whole lines. */
  copy(fromHpa: number, toHpa: number, length: number): void {
    this.#memory.copy(fromHpa, 0, toHpa, 0, length, "host");
  }
}
