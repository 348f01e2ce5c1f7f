import { POSTED_INTERRUPT_DESCRIPTOR } from "../../arch/vmx.js";
import type { CpuEnvironment } from "../system/environment.js";
import { requestVirtualInterrupt } from "./virtual-apic.js";

/** Posted-interrupt processing: clears ON and moves what is posted into the virtual IRR. */
export function syncPostedInterrupts(environment: CpuEnvironment): void {
  const { controls, physical } = environment;
  if (!controls?.postedInterrupts) return;
  const descriptor = controls.postedInterruptDescriptor;
  const control = descriptor + POSTED_INTERRUPT_DESCRIPTOR.CONTROL;
  physical.setUint8(control, physical.getUint8(control) & ~POSTED_INTERRUPT_DESCRIPTOR.ON);
  for (let n = 0; n < 8; n++) {
    const at = descriptor + POSTED_INTERRUPT_DESCRIPTOR.PIR + n * 4;
    let word = physical.getUint32(at, true);
    if (word === 0) continue;
    physical.setUint32(at, 0, true);
    while (word !== 0) {
      const bit = 31 - Math.clz32(word);
      requestVirtualInterrupt(environment, n * 32 + bit);
      word &= ~(1 << bit);
    }
  }
}
