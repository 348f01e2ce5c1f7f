import type { CpuEnvironment } from "../system/environment.js";
import { requestVirtualInterrupt } from "./virtual-apic.js";

/** Posted-interrupt descriptor: PIR in bytes 0..31, ON is bit 0 of byte 32 (SDM 3C table 30-1). */
const ON_BYTE = 32;

/** Posted-interrupt processing: clears ON and moves what is posted into the virtual IRR. */
export function syncPostedInterrupts(environment: CpuEnvironment): void {
  const { controls, physical } = environment;
  if (!controls?.postedInterrupts) return;
  const descriptor = controls.postedInterruptDescriptor;
  physical.setUint8(descriptor + ON_BYTE, physical.getUint8(descriptor + ON_BYTE) & ~1);
  for (let n = 0; n < 8; n++) {
    let word = physical.getUint32(descriptor + n * 4, true);
    if (word === 0) continue;
    physical.setUint32(descriptor + n * 4, 0, true);
    while (word !== 0) {
      const bit = 31 - Math.clz32(word);
      requestVirtualInterrupt(environment, n * 32 + bit);
      word &= ~(1 << bit);
    }
  }
}
