import { MCG_CAP, MCG_STATUS, MCI, MISC_PHYSICAL_LINE, SRAR_STATUS } from "../../arch/mca.js";
import { FEATURE_CONTROL, MSR } from "../../arch/msr.js";
import { EventBus, type MachineEvent } from "../../platform/event-bus.js";
import { AnonymousMemory } from "../mm/anonymous-memory.js";
import { GuestMemfd } from "../mm/guest-memfd.js";
import type { HostProfile } from "../mm/host-profile.js";
import { MemoryFailure } from "../mm/memory-failure.js";
import { PAGE_SIZE } from "../mm/page.js";
import { PageAllocator } from "../mm/page-allocator.js";
import { Task } from "../mm/task.js";
import { SparseMemory } from "../mm/testing.js";
import { MachineCheck, type MachineCheckConfig } from "./handler.js";
import { bankMsr, type MachineCheckProcessor } from "./processor.js";

/** MCG_CAP of the model: 21 banks, everything but MCG_CTL (smi-mca facts 3.1). */
export const TEST_MCG_CAP = 0x0f001c15n;

/** MCG_STATUS of a local SRAR from a TD, and of the affected and the other processors when it is broadcast. */
export const LOCAL_FROM_TD = 0x100fn;
export const BROADCAST_FROM_TD = 0x1007n;
export const BROADCAST_BYSTANDER = MCG_STATUS.RIPV | MCG_STATUS.MCIP;

export const DCU_SRAR = SRAR_STATUS | 0x134n;
export const IFU_SRAR = SRAR_STATUS | 0x150n;

/** KeyID field and example of smi-mca facts 3.8. */
export const KEY_ID_SHIFT = 46;
export const EXAMPLE_HPA = 0x1_2345_6000;
export const EXAMPLE_ADDR = 0x0008_4001_2345_6000n;

/** Kernel code after SEAMCALL. */
export const KERNEL_FRAME = { cs: 0x10, rip: 0xffff_ffff_8123_4567n };
export const USER_FRAME = { cs: 0x33, rip: 0x40_1000n };

/** A processor's machine-check registers, strict about what may be written. */
export class FakeProcessor implements MachineCheckProcessor {
  readonly #msrs = new Map<number, bigint>([
    [MSR.IA32_MCG_CAP, TEST_MCG_CAP],
    [MSR.IA32_FEATURE_CONTROL, FEATURE_CONTROL.LOCK | FEATURE_CONTROL.LMCE_ON],
  ]);
  /** Writes of MCG_STATUS and of banks, in order. */
  readonly writes: string[] = [];

  constructor(readonly id = 0) {}

  readMsr(index: number): bigint {
    return this.#msrs.get(index) ?? 0n;
  }

  writeMsr(index: number, value: bigint): void {
    const isStatus = index >= MSR.IA32_MC0_CTL && index % 4 === MCI.STATUS;
    if ((isStatus || index === MSR.IA32_MCG_STATUS) && value !== 0n) throw new Error("#GP: only 0 may be written");
    if (index === MSR.IA32_MCG_CTL && (this.readMsr(MSR.IA32_MCG_CAP) & MCG_CAP.CTL_P) === 0n) throw new Error("#GP");
    if (isStatus) this.writes.push(`STATUS ${(index - MSR.IA32_MC0_CTL) >> 2}`);
    if (index === MSR.IA32_MCG_STATUS) this.writes.push("MCG_STATUS");
    this.set(index, value);
  }

  /** What hardware or firmware does. */
  set(index: number, value: bigint): void {
    this.#msrs.set(index, value);
  }

  /** Logs an error in a bank. */
  logError(bank: number, status: bigint, addr = EXAMPLE_ADDR, misc = MISC_PHYSICAL_LINE): void {
    this.set(bankMsr(bank, MCI.STATUS), status);
    this.set(bankMsr(bank, MCI.ADDR), addr);
    this.set(bankMsr(bank, MCI.MISC), misc);
  }

  status(bank: number): bigint {
    return this.readMsr(bankMsr(bank, MCI.STATUS));
  }

  get mcgStatus(): bigint {
    return this.readMsr(MSR.IA32_MCG_STATUS);
  }

  set mcgStatus(value: bigint) {
    this.set(MSR.IA32_MCG_STATUS, value);
  }
}

export interface TestHost {
  readonly lps: readonly FakeProcessor[];
  readonly lp: FakeProcessor;
  readonly check: MachineCheck;
  readonly allocator: PageAllocator;
  readonly failure: MemoryFailure;
  readonly task: Task;
  readonly user: AnonymousMemory;
  readonly file: GuestMemfd;
  readonly events: MachineEvent[];
  /** Names of the events so far. */
  names(): string[];
}

/** A host whose memory holds the example page, which a guest_memfd has. */
export function testHost(
  options: { count?: number; hostProfile?: HostProfile } & Partial<Omit<MachineCheckConfig, "processors">> = {},
): TestHost {
  const bus = new EventBus({ insn: 0, clock: 0 });
  const events: MachineEvent[] = [];
  bus.on("*", (event) => events.push(event));
  const hostProfile = options.hostProfile ?? "fixed";
  const memory = new SparseMemory();
  const range = { first: EXAMPLE_HPA, end: EXAMPLE_HPA + 16 * PAGE_SIZE };
  const allocator = new PageAllocator({ ...range, memory, events: bus });
  const failure = new MemoryFailure({ allocator, events: bus, hostProfile });
  const file = new GuestMemfd(allocator, 4 * PAGE_SIZE);
  file.getPage(0);
  failure.addFile(file);
  const user = new AnonymousMemory(allocator, memory);
  const task = new Task("vcpu0", user);
  failure.addProcess(user, [task]);
  const lps = Array.from({ length: options.count ?? 1 }, (_, id) => new FakeProcessor(id));
  const check = new MachineCheck({
    events: bus,
    allocator,
    memoryFailure: failure,
    keyIdShift: KEY_ID_SHIFT,
    currentTask: () => task,
    ...options,
    hostProfile,
    processors: lps,
  });
  for (const lp of lps) {
    check.setUp(lp);
    lp.writes.length = 0;
  }
  const names = (): string[] => events.map((event) => event.event);
  return { lps, lp: lps[0] as FakeProcessor, check, allocator, failure, task, user, file, events, names };
}
