/** Machine-check architecture (SDM 3B chapter 16; smi-mca facts 2.2, 3 and 4.2). */

/** IA32_MCG_CAP: bank count in 7:0. */
export const MCG_CAP = {
  BANK_COUNT: 0xffn,
  CTL_P: 1n << 8n,
  EXT_P: 1n << 9n,
  CMCI_P: 1n << 10n,
  TES_P: 1n << 11n,
  /** Machine checks in SEAM non-root are told apart (MCG_STATUS.SEAM_NR). */
  SEAM_NR: 1n << 12n,
  SER_P: 1n << 24n,
  /** Firmware-first signalling: MCE to SMI morphing. */
  EMC_P: 1n << 25n,
  ELOG_P: 1n << 26n,
  LMCE_P: 1n << 27n,
} as const;

/** IA32_MCG_STATUS. */
export const MCG_STATUS = {
  RIPV: 1n,
  EIPV: 1n << 1n,
  MCIP: 1n << 2n,
  LMCE_S: 1n << 3n,
  SEAM_NR: 1n << 12n,
} as const;

/** IA32_MCG_EXT_CTL. */
export const MCG_EXT_CTL = { LMCE_EN: 1n } as const;

/** IA32_MCi_STATUS. */
export const MCI_STATUS = {
  MCACOD: 0xffffn,
  /** Filter flag of corrected-error codes. */
  MCACOD_FILTER: 1n << 12n,
  MSCOD_SHIFT: 16n,
  MSCOD: 0xffff0000n,
  FIRMWARE_UPDATED: 1n << 37n,
  CORRECTED_COUNT_SHIFT: 38n,
  CORRECTED_COUNT: 0x7fffn << 38n,
  THRESHOLD_STATUS_SHIFT: 53n,
  AR: 1n << 55n,
  S: 1n << 56n,
  PCC: 1n << 57n,
  ADDRV: 1n << 58n,
  MISCV: 1n << 59n,
  EN: 1n << 60n,
  UC: 1n << 61n,
  OVER: 1n << 62n,
  VAL: 1n << 63n,
} as const;

/** IA32_MCi_MISC: address LSB in 5:0, address mode in 8:6. */
export const MCI_MISC = {
  ADDRESS_LSB: 0x3fn,
  MODE_SHIFT: 6n,
  MODE: 0x1c0n,
  MODE_PHYSICAL: 2n,
} as const;

/** IA32_MCi_CTL2. Bits 32 and 34 belong to firmware: only SMM writes them (smi-mca facts 2.2). */
export const MCI_CTL2 = {
  THRESHOLD: 0x7fffn,
  CMCI_EN: 1n << 30n,
  CSMI_EN: 1n << 32n,
  MSMI_EN: 1n << 34n,
} as const;

/** SMM_MCA_CONTROL (MSR 0x52). */
export const SMM_MCA_CONTROL = {
  HIDE_CORRECTED: 1n,
  HIDE_UNCORRECTED: 2n,
} as const;

/** SMM_MCA_CAP (MSR 0x17D). */
export const SMM_MCA_CAP = {
  SAVE_STATE_ACCESS: 1n << 57n,
  CODE_ACCESS_CHECK: 1n << 58n,
  LONG_FLOW: 1n << 59n,
} as const;

/** Registers of bank i: MSR 0x400 + 4 i + offset. */
export const MCI = { CTL: 0, STATUS: 1, ADDR: 2, MISC: 3 } as const;

/** Banks of the model (smi-mca facts 4.2 and 8): 0 IFU, 1 DCU, 13 to 20 memory controllers. */
export const BANK = {
  IFU: 0,
  DCU: 1,
  IMC: 13,
  IMC_LAST: 20,
  COUNT: 21,
} as const;

/** MCACOD values. */
export const MCACOD = {
  DATA_LOAD: 0x134n,
  INSTRUCTION_FETCH: 0x150n,
  /** Memory controller, read; the channel is in 3:0. */
  MEMORY_READ: 0x90n,
  MEMORY_SCRUB: 0xc0n,
  L3_EXPLICIT_WRITEBACK: 0x17an,
} as const;

/** MSCOD values of the memory controller, on Sapphire and Emerald Rapids where nothing else is said. */
export const MSCOD = {
  TME_INTEGRITY: 0x082an,
  TME_TD_OWNER: 0x082bn,
  TME_KEY_POISON: 0x082dn,
  /** Skylake-X: scrubbing met an uncorrected error but reports it as corrected (smi-mca facts 3.5). */
  SKYLAKE_X_SCRUB: 0x0010n,
} as const;

/** MISC of an error with a physical line address: LSB 6, mode physical. */
export const MISC_PHYSICAL_LINE = 0x86n;

/** Consumption of poison by a data load or an instruction fetch: software recoverable, action required. */
export const SRAR_STATUS =
  MCI_STATUS.VAL | MCI_STATUS.UC | MCI_STATUS.EN | MCI_STATUS.MISCV | MCI_STATUS.ADDRV | MCI_STATUS.S | MCI_STATUS.AR;

/** Poison made or met by the memory controller: uncorrected, no action required. */
export const UCNA_STATUS = MCI_STATUS.VAL | MCI_STATUS.UC | MCI_STATUS.EN | MCI_STATUS.MISCV | MCI_STATUS.ADDRV;

/** A corrected error with an address, counted once. */
export const CORRECTED_STATUS =
  MCI_STATUS.VAL | MCI_STATUS.EN | MCI_STATUS.MISCV | MCI_STATUS.ADDRV | (1n << MCI_STATUS.CORRECTED_COUNT_SHIFT);
