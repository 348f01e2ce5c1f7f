import { POSTED_INTERRUPT_DESCRIPTOR } from "../../arch/vmx.js";
import type { HardwareMemory } from "../hardware.js";

/** Vector that notifies a running vCPU of what is posted (asm/irq_vectors.h). */
export const POSTED_INTR_VECTOR = 0xf2;

const { PIR, CONTROL, ON, SN } = POSTED_INTERRUPT_DESCRIPTOR;
const NV_SHIFT = 16;
const PIR_WORDS = 8;

/** A vCPU's posted-interrupt descriptor: 64 bytes of host memory that the processor reads and clears. */
export class PostedInterruptDescriptor {
  constructor(
    private readonly memory: HardwareMemory,
    readonly hpa: number,
  ) {}

  /** As the vCPU is created: nothing posted, notification suppressed. */
  reset(notificationVector: number): void {
    this.memory.fill(this.hpa, 64, 0);
    this.memory.write32(this.hpa + CONTROL, SN | (notificationVector << NV_SHIFT));
  }

  get on(): boolean {
    return (this.memory.read32(this.hpa + CONTROL) & ON) !== 0;
  }

  /** Sets ON; true if it was set before. */
  testAndSetOn(): boolean {
    const control = this.memory.read32(this.hpa + CONTROL);
    if ((control & ON) !== 0) return true;
    this.memory.write32(this.hpa + CONTROL, control | ON);
    return false;
  }

  get suppressed(): boolean {
    return (this.memory.read32(this.hpa + CONTROL) & SN) !== 0;
  }
  set suppressed(value: boolean) {
    const control = this.memory.read32(this.hpa + CONTROL);
    const next = value ? control | SN : control & ~SN;
    if (next !== control) this.memory.write32(this.hpa + CONTROL, next >>> 0);
  }

  /** Sets the bit of a vector; true if it was set before. */
  testAndSetPir(vector: number): boolean {
    const at = this.hpa + PIR + 4 * (vector >>> 5);
    const word = this.memory.read32(at);
    const bit = 1 << (vector & 31);
    if ((word & bit) !== 0) return true;
    this.memory.write32(at, (word | bit) >>> 0);
    return false;
  }

  get pirEmpty(): boolean {
    for (let word = 0; word < PIR_WORDS; word++) if (this.memory.read32(this.hpa + PIR + 4 * word) !== 0) return false;
    return true;
  }

  /** What is posted, ascending. */
  get vectors(): number[] {
    return Array.from({ length: 32 * PIR_WORDS }, (_, vector) => vector).filter(
      (vector) => ((this.memory.read32(this.hpa + PIR + 4 * (vector >>> 5)) >>> (vector & 31)) & 1) === 1,
    );
  }
}
