import { describe, expect, it } from "vitest";
import { BANK } from "../../arch/mca.js";
import { EventBus } from "../../platform/event-bus.js";
import type { ConsumingAccess } from "./grammar.js";
import { parseInjection } from "./grammar.js";
import { InjectionScheduler } from "./scheduler.js";
import type { Cancel, InjectionTarget } from "./target.js";

/** A machine of which only the counters and latches exist; `runTo` plays boundaries, `access` plays a guest's access. */
class ScriptedTarget implements InjectionTarget {
  retired = 0;
  logicalProcessors = 2;
  holdNmis = false;
  readonly log: string[] = [];
  readonly events = new EventBus({
    get insn() {
      return 0;
    },
    clock: 0,
  });
  readonly #appointments: { at: number; action: () => void }[] = [];
  readonly #watches: { kind: ConsumingAccess; action: (gpa: number, hpa: number) => void }[] = [];
  readonly breakpoints = new Map<bigint, () => void>();

  processorOf(vcpu: number | undefined): number {
    return vcpu ?? 0;
  }
  vcpuOn(lp: number): number | null {
    return lp;
  }
  nmiPending(): boolean {
    return this.holdNmis;
  }
  memoryAddress(mciAddr: bigint): number {
    return Number(mciAddr & 0xffff_ffff_ffffn);
  }
  raise(lp: number, event: "smi" | "nmi"): void {
    this.log.push(`${this.retired}: ${event} at ${lp}`);
  }
  correctedError(lp: number): void {
    this.log.push(`${this.retired}: corrected error at ${lp}`);
  }
  at(retired: number, action: () => void): Cancel {
    const appointment = { at: retired, action };
    this.#appointments.push(appointment);
    return () => this.#drop(appointment);
  }
  atRip(address: bigint, action: () => void): Cancel {
    this.breakpoints.set(address, action);
    return () => this.breakpoints.delete(address);
  }
  watchAccess(kind: ConsumingAccess, action: (gpa: number, hpa: number) => void): Cancel {
    this.#watches.push({ kind, action });
    return () => {};
  }
  translate(gpa: number): number | undefined {
    return gpa < 0x100000 ? gpa + 0x40000000 : undefined;
  }
  poisonLine(hpa: number): void {
    this.log.push(`${this.retired}: poison 0x${hpa.toString(16)}`);
  }

  runTo(retired: number): void {
    for (;;) {
      const next = this.#appointments.sort((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > retired) break;
      this.retired = next.at;
      this.#drop(next);
      next.action();
    }
    this.retired = retired;
  }

  access(kind: ConsumingAccess, gpa: number, hpa: number): void {
    const watch = this.#watches.find((each) => each.kind === kind);
    if (watch === undefined) return;
    this.#watches.splice(this.#watches.indexOf(watch), 1);
    watch.action(gpa, hpa);
  }

  #drop(appointment: { at: number; action: () => void }): void {
    const at = this.#appointments.indexOf(appointment);
    if (at >= 0) this.#appointments.splice(at, 1);
  }
}

function scheduled(...texts: string[]): { target: ScriptedTarget; scheduler: InjectionScheduler } {
  const target = new ScriptedTarget();
  const scheduler = new InjectionScheduler(target);
  for (const text of texts) scheduler.add(parseInjection(text));
  return { target, scheduler };
}

describe("the injection scheduler", () => {
  it("fires at each boundary of a range, the last one included", () => {
    const { target, scheduler } = scheduled("smi@insn=100..300/100");
    target.runTo(1000);
    expect(target.log).toEqual(["100: smi at 0", "200: smi at 0", "300: smi at 0"]);
    expect(scheduler.records()[0]?.fired).toBe(3);
  });

  it("stops a range at the last step inside it", () => {
    const { target } = scheduled("smi@insn=10..25/10");
    target.runTo(100);
    expect(target.log).toHaveLength(2);
  });

  it("reaches the vCPU's processor, or all of them", () => {
    const { target } = scheduled("smi@insn=1,vcpu=1", "nmi@insn=2,broadcast", "csmi@insn=3");
    target.runTo(5);
    expect(target.log).toEqual(["1: smi at 1", "2: nmi at 0", "2: nmi at 1", "3: corrected error at 0"]);
  });

  it("fires once for a console text, at the boundary after the instruction that completed it", () => {
    const { target, scheduler } = scheduled('smi@console="user space"');
    const print = (text: string) => scheduler.consoleOutput(new TextEncoder().encode(text));
    target.runTo(50);
    print("user user sp");
    print("ace is up");
    print("user space");
    expect(target.log).toEqual([]);
    target.runTo(60);
    expect(target.log).toEqual(["51: smi at 0"]);
  });

  it("fires before the instruction at an address", () => {
    const { target, scheduler } = scheduled("smi@rip=0x1000");
    target.breakpoints.get(0x1000n)?.();
    expect(scheduler.records()[0]?.fired).toBe(1);
  });

  it("poisons the line of the next access of its kind, and records who consumed it", () => {
    const { target, scheduler } = scheduled("memory-error@insn=10,on=fetch");
    target.runTo(20);
    target.access("load", 0x5008, 0x40005008);
    expect(target.log).toEqual([]);
    target.access("fetch", 0x5048, 0x40005048);
    expect(target.log).toEqual(["20: poison 0x40005040"]);
    target.events.emit("platform", "mca-logged", 0, null, { bank: BANK.IMC, addr: 0x40005040n });
    expect(scheduler.records()[0]?.taken).toEqual([]);
    target.events.emit("platform", "mca-logged", 0, null, { bank: BANK.DCU, addr: 0x0021_0000_4000_5040n });
    expect(scheduler.records()[0]).toMatchObject({
      fired: 1,
      taken: [{ retired: 0, vcpu: 0, gpa: 0x5040, hpa: 0x40005040 }],
    });
  });

  it("poisons a line by address, which may never be consumed", () => {
    const { target, scheduler } = scheduled("memory-error@insn=10,gpa=0x7001");
    target.runTo(10);
    expect(target.log).toEqual(["10: poison 0x40007000"]);
    expect(scheduler.records()[0]).toMatchObject({ fired: 1, taken: [] });
  });

  it("counts SMIs that merge in the latch as taken by the same entry", () => {
    const { target, scheduler } = scheduled("smi@insn=1", "smi@insn=2");
    target.runTo(5);
    target.events.emit("smm", "smm-enter", 0, 0);
    target.events.emit("smm", "smm-enter", 0, 0);
    expect(scheduler.records().map(({ taken }) => taken.length)).toEqual([1, 1]);
  });

  it("records an NMI when the host takes it at once, or when it ends the guest's run", () => {
    const { target, scheduler } = scheduled("nmi@insn=1", "nmi@insn=2");
    target.runTo(1);
    expect(scheduler.records()[0]?.taken).toHaveLength(1);
    target.holdNmis = true;
    target.runTo(2);
    target.events.emit("kvm", "kvm-exit", 0, 0, { reason: 48 });
    expect(scheduler.records()[1]?.taken).toHaveLength(0);
    target.events.emit("kvm", "kvm-exit", 0, 0, { reason: 0 });
    expect(scheduler.records()[1]?.taken).toHaveLength(1);
  });

  it("never fires what has been taken back", () => {
    const { target, scheduler } = scheduled("smi@insn=1..9/1");
    scheduler.dispose();
    target.runTo(20);
    expect(target.log).toEqual([]);
  });
});
