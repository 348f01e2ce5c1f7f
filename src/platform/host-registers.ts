import { GPR, type Gprs } from "./seam.js";

/**
 * Where the host executes, as far as a save state or an exception frame shows it. The host is not machine code here: these
 * addresses stand for the places in a kernel that matter to the story.
 */
export const HOST_RIP = {
  /** Anywhere in the kernel. */
  KERNEL: 0xffff_ffff_8100_0000n,
  /** The idle loop, behind its HLT. */
  IDLE: 0xffff_ffff_8100_1000n,
  /** The instruction after SEAMCALL. */
  AFTER_SEAMCALL: 0xffff_ffff_8100_2004n,
} as const;

/** Ring-0 code and data selectors of the host. */
export const HOST_CS = 0x10;
export const HOST_SS = 0x18;

const RFLAGS_FIXED = 0x2n;
export const RFLAGS_IF = 0x200n;

/** Control registers of a 64-bit host in VMX operation: CR0 PE MP ET NE WP AM PG; CR4 with MCE and VMXE; EFER SCE LME LMA NXE. */
const HOST_CONTROL = {
  CR0: 0x8005_0033n,
  CR3: 0x1000_0000n,
  CR4: 0x0037_26f0n,
  EFER: 0xd01n,
  DR6: 0xffff_0ff0n,
  DR7: 0x400n,
} as const;

/** The host's registers on one logical processor: what SMM saves and RSM loads. */
export class HostRegisters {
  /** RAX..R15. After a SEAMCALL these are its outputs, and the caller's own array. */
  gprs: Gprs = new BigUint64Array(16);
  rip: bigint = HOST_RIP.KERNEL;
  interruptFlag = false;
  cr0: bigint = HOST_CONTROL.CR0;
  cr3: bigint = HOST_CONTROL.CR3;
  cr4: bigint = HOST_CONTROL.CR4;
  efer: bigint = HOST_CONTROL.EFER;
  dr6: bigint = HOST_CONTROL.DR6;
  dr7: bigint = HOST_CONTROL.DR7;
  /** ES CS SS DS FS GS LDTR TR. */
  selectors = [0, HOST_CS, HOST_SS, 0, 0, 0, 0, 0x40];
  gdtBase = 0xffff_fe00_0000_1000n;
  ldtBase = 0n;
  idtBase = 0xffff_fe00_0000_0000n;

  get rflags(): bigint {
    return RFLAGS_FIXED | (this.interruptFlag ? RFLAGS_IF : 0n);
  }

  get rax(): bigint {
    return this.gprs[GPR.RAX] as bigint;
  }
}

/** What an exception or interrupt of the host finds on its stack. */
export interface HostFrame {
  readonly cs: number;
  readonly rip: bigint;
  readonly rflags: bigint;
}
