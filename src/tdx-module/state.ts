import { KOT, SYS_STATE } from "../arch/tdx-abi.js";

/** One TD memory region, as TDH.SYS.CONFIG took it. Sizes and addresses in bytes. */
export interface Tdmr {
  readonly base: number;
  readonly size: number;
  readonly pamt1g: number;
  readonly pamt2m: number;
  readonly pamt4k: number;
  readonly reserved: readonly { readonly offset: number; readonly size: number }[];
  /** Bytes from the base whose PAMT entries TDH.SYS.TDMR.INIT has made. */
  initialised: number;
}

/** A KeyID in the key ownership table. */
export interface KotEntry {
  state: number;
  /** Packages (bits) whose caches may still hold lines of this flushed KeyID. */
  packagesToWriteBack: number;
}

/** Cache write-back of one package. */
export interface WriteBack {
  /** KeyIDs whose write-back is under way; empty: none. */
  hkids: number[];
  /** Parts of the cache that are done. */
  blocksDone: number;
}

/** What the module knows beyond physical memory: plain data, complete, so that a copy restores it. */
export interface ModuleState {
  sysState: number;
  /** KeyID of TDRs and PAMT, set by TDH.SYS.CONFIG. */
  globalKeyId: number;
  /** Packages (bits) on which the global key is configured. */
  globalKeyPackages: number;
  /** LPs that went through TDH.SYS.LP.INIT, by id. */
  lpInitialised: boolean[];
  /** IA32_TSC_ADJUST at TDH.SYS.INIT, in hex. */
  tscAdjust: string;
  /** Native CPUID values at TDH.SYS.INIT: EAX, EBX, ECX, EDX per row of the CPUID table. */
  nativeCpuid: number[][];
  /** XCR0 | IA32_XSS bits of the processor. */
  nativeXfam: number;
  /** Native frequency of the TSC in Hz. */
  tscHz: number;
  nativeArchCapabilities: string;
  kot: KotEntry[];
  /** By package. */
  writeBacks: WriteBack[];
  tdmrs: Tdmr[];
}

export const initialState = (): ModuleState => ({
  sysState: SYS_STATE.INIT_PENDING,
  globalKeyId: 0,
  globalKeyPackages: 0,
  lpInitialised: [],
  tscAdjust: "0x0",
  nativeCpuid: [],
  nativeXfam: 0,
  tscHz: 0,
  nativeArchCapabilities: "0x0",
  kot: [],
  writeBacks: [],
  tdmrs: [],
});

/** Fills the tables whose size the platform decides; KeyID 0 and the other shared ones are never free. */
export function sizeTables(state: ModuleState, keyIdCount: number, firstPrivateKeyId: number, packages: number): void {
  state.kot = Array.from({ length: keyIdCount }, (_, hkid) => ({
    state: hkid < firstPrivateKeyId ? KOT.RESERVED : KOT.FREE,
    packagesToWriteBack: 0,
  }));
  state.writeBacks = Array.from({ length: packages }, () => ({ hkids: [], blocksDone: 0 }));
}
