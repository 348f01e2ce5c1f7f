import { EventBus, type MachineEvent } from "../../platform/event-bus.js";
import type { HostMemory } from "./host-memory.js";
import { PageAllocator } from "./page-allocator.js";

/** Memory for unit tests: bytes that were written, zeros elsewhere. */
export class SparseMemory implements HostMemory {
  readonly #bytes = new Map<number, number>();
  /** Whole pages filled, in order. */
  readonly fills: number[] = [];

  read(hpa: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => this.#bytes.get(hpa + i) ?? 0);
  }

  write(hpa: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => {
      this.#bytes.set(hpa + i, byte);
    });
  }

  fill(hpa: number, length: number, value: number): void {
    this.fills.push(hpa);
    this.write(hpa, new Uint8Array(length).fill(value));
  }
}

/** First page of the test allocator. */
export const FIRST = 0x10_0000;

/** A page allocator over `pages` pages, with what it writes and tells. */
export function testAllocator(pages: number): {
  allocator: PageAllocator;
  memory: SparseMemory;
  bus: EventBus;
  events: MachineEvent[];
} {
  const bus = new EventBus({ insn: 0, clock: 0 });
  const events: MachineEvent[] = [];
  bus.on("*", (event) => events.push(event));
  const memory = new SparseMemory();
  const allocator = new PageAllocator({ first: FIRST, end: FIRST + pages * 4096, memory, events: bus });
  return { allocator, memory, bus, events };
}
