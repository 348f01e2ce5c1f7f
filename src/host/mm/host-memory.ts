/**
 * Physical memory as the host kernel reads and writes it (KeyID 0). Platform's `PhysicalMemory.host` satisfies it; a read of
 * a poisoned line throws there, as the #MC that it is.
 */
export interface HostMemory {
  read(hpa: number, length: number): Uint8Array;
  write(hpa: number, bytes: Uint8Array): void;
  /** Fills whole 64-byte lines (MOVDIR64B), which makes them the host's and clean. */
  fill(hpa: number, length: number, value: number): void;
}
