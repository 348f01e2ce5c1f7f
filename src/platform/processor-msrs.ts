import { MCI_CTL2 } from "../arch/mca.js";
import { INTR_PENDING, MSR, X2APIC_MSR } from "../arch/msr.js";
import type { Clock } from "./clock.js";
import type { ResolvedConfig } from "./config.js";
import { ProcessorFault } from "./faults.js";
import type { EventLatches } from "./latches.js";
import type { LogicalProcessor } from "./logical-processor.js";
import type { MachineCheckUnit } from "./mca/machine-check-unit.js";

/** Delivery mode and mask of an entry of the local vector table (SDM 3A 11.5.1). */
const LVT = { VECTOR: 0xffn, MODE_SHIFT: 8n, MODE: 7n, MASKED: 1n << 16n, FIXED: 0n, SMI: 2n, NMI: 4n } as const;

/** What an LVT entry sends: a vector, an SMI, an NMI, or nothing. */
export function lvtDelivery(entry: bigint): number | "smi" | "nmi" | null {
  if (entry & LVT.MASKED) return null;
  const mode = (entry >> LVT.MODE_SHIFT) & LVT.MODE;
  if (mode === LVT.SMI) return "smi";
  if (mode === LVT.NMI) return "nmi";
  return mode === LVT.FIXED ? Number(entry & LVT.VECTOR) : null;
}

/** IA32_INTR_PENDING: raw pending state, whatever the mode holds back. */
export function pendingInterrupts(latches: EventLatches): number {
  return (
    (latches.has("intr") ? INTR_PENDING.INTR : 0) |
    (latches.has("nmi") ? INTR_PENDING.NMI : 0) |
    (latches.has("smi") ? INTR_PENDING.SMI : 0)
  );
}

/** Registers of a logical processor that are more than storage. */
export function defineProcessorMsrs(lp: LogicalProcessor, clock: Clock): void {
  const onlyIn = (allowed: boolean, index: number): void => {
    if (!allowed) throw new ProcessorFault("gp", `RDMSR 0x${index.toString(16)} in mode ${lp.mode}`);
  };
  lp.msrs.define(MSR.IA32_TIME_STAMP_COUNTER, { read: () => BigInt(Math.floor(clock.now)) });
  lp.msrs.define(MSR.SMI_COUNT, { read: () => BigInt(lp.smiCount) });
  lp.msrs.define(MSR.IA32_INTR_PENDING, {
    read: () => {
      onlyIn(lp.mode === "seam-root", MSR.IA32_INTR_PENDING);
      return BigInt(pendingInterrupts(lp.latches));
    },
  });
  lp.msrs.define(MSR.IA32_SMBASE, {
    read: () => {
      onlyIn(lp.inSmm, MSR.IA32_SMBASE);
      return BigInt(lp.smbase);
    },
  });
  lp.msrs.define(X2APIC_MSR.ID, { read: () => BigInt(lp.id) });
  lp.msrs.define(X2APIC_MSR.SELF_IPI, {
    read: () => {
      throw new ProcessorFault("gp", "RDMSR 0x83f: write only");
    },
    write: (value) => lp.selfIpi(Number(value & 0xffn)),
  });
}

/** What firmware has set up in the machine-check banks before the operating system starts (smi-mca facts 2.2). */
export function firmwareSetup(unit: MachineCheckUnit, config: ResolvedConfig): void {
  for (const bank of unit.banks) {
    if (config.emca) bank.ctl2 |= MCI_CTL2.MSMI_EN;
    if (config.csmi) bank.ctl2 |= MCI_CTL2.CSMI_EN;
  }
}
