import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT, KVM_IRQ_ROUTING_MSI, KVM_MP_STATE } from "../../arch/kvm-uapi.js";
import { TDH } from "../../arch/tdx-abi.js";
import { GPR } from "../../platform/seam.js";
import { LOCAL_TIMER_VECTOR } from "../hrtimer.js";
import { asyncExit, type FakeTd, type GuestStep, makeTd, tdvmcall } from "./testing.js";
import type { Vcpu } from "./vcpu.js";

const SVR_ENABLED = 0x1ffn;
const wrmsr = (index: number, value: bigint): GuestStep => tdvmcall(32, [index, value]);
const rdmsr = (index: number): GuestStep => tdvmcall(31, [index]);
const STOP = asyncExit(7n);

/** Runs until the guest stops. */
function run(td: FakeTd, ...steps: GuestStep[]): void {
  td.machine.guest.push(...steps, STOP);
  expect(td.vcpu.run()).toBe(0);
  expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTERNAL_ERROR);
}

/** The vectors that are posted, taken as the processor takes them. */
function takePir(td: FakeTd, vcpu: Vcpu = td.vcpu): number[] {
  const { host } = td.machine.memory;
  const vectors: number[] = [];
  for (let vector = 0; vector < 256; vector++) {
    const word = host.read32(vcpu.pi.hpa + 4 * (vector >> 5));
    if ((word >>> (vector & 31)) & 1) vectors.push(vector);
  }
  host.fill(vcpu.pi.hpa, 32, 0);
  host.write32(vcpu.pi.hpa + 32, host.read32(vcpu.pi.hpa + 32) & ~1);
  return vectors;
}

/** An entry into the guest that takes what is posted. */
const enter =
  (td: FakeTd, seen: number[], then: GuestStep): GuestStep =>
  (regs, lp) => {
    seen.push(...takePir(td));
    then(regs, lp);
  };

const msi = (vector: number, destination = 0, logical = false) => ({
  addressLo: (0xfee00000 | (destination << 12) | (logical ? 4 : 0)) >>> 0,
  addressHi: 0,
  data: vector,
});

describe("message-signalled interrupts", () => {
  it("are posted into the descriptor, and the next entry notifies the guest", () => {
    const td = makeTd();
    run(td, wrmsr(0x80f, SVR_ENABLED));
    expect(td.vm.signalMsi(msi(0x41))).toBe(1);
    expect(td.vm.signalMsi(msi(0x41))).toBe(1);
    const { host } = td.machine.memory;
    expect(host.read32(td.vcpu.pi.hpa + 8) & 2).toBe(2);
    // ON, SN while the thread is in user space, NV.
    expect(host.read32(td.vcpu.pi.hpa + 32)).toBe(0x00f20003);
    const seen: number[] = [];
    run(td, enter(td, seen, asyncExit(6n)));
    expect(td.machine.lps[0]?.selfIpis).toEqual([0xf2]);
    expect(seen).toEqual([0x41]);
    const accepted = td.machine.seen.filter(({ event }) => event === "kvm-apicv-accept-irq");
    expect(accepted.map(({ fields }) => fields.vector)).toEqual([0x41, 0x41]);
  });

  it("go nowhere while the local APIC is off, or to nobody", () => {
    const td = makeTd();
    expect(td.vm.signalMsi(msi(0x41))).toBe(0);
    run(td, wrmsr(0x80f, SVR_ENABLED));
    expect(td.vm.signalMsi(msi(0x41, 5))).toBe(-1);
    expect(td.vm.signalMsi(msi(5))).toBe(0);
    expect(takePir(td)).toEqual([]);
  });

  it("reach logical destinations and broadcast", () => {
    const td = makeTd({ vcpus: 3 });
    for (const vcpu of td.vcpus) vcpu.apic.write(0x80f, SVR_ENABLED);
    expect(td.vm.signalMsi(msi(0x50, 0b101, true))).toBe(1);
    expect(td.vcpus.map((vcpu) => takePir(td, vcpu))).toEqual([[0x50], [], [0x50]]);
    expect(td.vm.signalMsi(msi(0x51, 0xff))).toBe(1);
    expect(td.vcpus.map((vcpu) => takePir(td, vcpu))).toEqual([[0x51], [0x51], [0x51]]);
    // Lowest priority goes to one, chosen by vector.
    expect(td.vm.signalMsi({ ...msi(0x52, 0b111, true), data: 0x152 })).toBe(1);
    expect(td.vcpus.map((vcpu) => takePir(td, vcpu))).toEqual([[], [0x52], []]);
  });

  it("GSIs go by their routes when the line rises", () => {
    const td = makeTd();
    td.vcpu.apic.write(0x80f, SVR_ENABLED);
    expect(td.vm.setGsiRouting([{ gsi: 4, type: KVM_IRQ_ROUTING_MSI, msi: msi(0x34) }])).toBe(0);
    expect(td.vm.irqLine(4, true)).toBe(0);
    expect(td.vm.irqLine(4, false)).toBe(0);
    expect(td.vm.irqLine(5, true)).toBe(0);
    expect(takePir(td)).toEqual([0x34]);
    expect(td.vm.setGsiRouting([{ gsi: 4, type: 1, msi: msi(0x34) }])).toBe(-ERRNO.EINVAL);
  });
});

describe("interprocessor interrupts", () => {
  it("go by ICR: physical, self, others, NMI", () => {
    const td = makeTd({ vcpus: 2 });
    for (const vcpu of td.vcpus) vcpu.apic.write(0x80f, SVR_ENABLED);
    const other = td.vcpus[1] as Vcpu;
    run(td, wrmsr(0x830, (1n << 32n) | 0xfdn));
    expect([takePir(td), takePir(td, other)]).toEqual([[], [0xfd]]);
    run(td, wrmsr(0x830, 0x400f0n | (1n << 18n)));
    run(td, wrmsr(0x830, 0xc00f1n));
    expect([takePir(td), takePir(td, other)]).toEqual([[0xf0], [0xf1]]);
    run(td, wrmsr(0x830, (1n << 32n) | 0x400n));
    expect(other.nmiPending).toBe(1);
    // INIT and SIPI do nothing.
    run(td, wrmsr(0x830, (1n << 32n) | 0x500n), wrmsr(0x830, (1n << 32n) | 0x610n));
    expect(takePir(td, other)).toEqual([]);
    expect(other.mpState).toBe(KVM_MP_STATE.RUNNABLE);
  });

  it("reads ICR back without the pending bit", () => {
    const td = makeTd();
    run(td, wrmsr(0x830, 0x41000n | 0x30n), rdmsr(0x830));
    expect(td.vcpu.apic.read(0x830)).toBe(0x40030n);
  });
});

describe("NMI", () => {
  it("is handed to the module at the next entry, several as one", () => {
    const td = makeTd();
    run(td);
    td.machine.calls.length = 0;
    expect(td.vcpu.nmi()).toBe(0);
    expect(td.vcpu.nmi()).toBe(0);
    run(td);
    expect(td.machine.leaves).toEqual(["VP_WR", "VP_ENTER"]);
    const inputs = td.machine.calls[0]?.inputs;
    expect([GPR.RDX, GPR.R8, GPR.R9].map((r) => inputs?.[r])).toEqual([0x2000_0000_0000_000bn, 1n, 0xffn]);
    expect(td.vcpu.stats.nmiInjections).toBe(1);
  });
});

describe("HLT", () => {
  const hlt = (blocked: number): GuestStep => tdvmcall(12, [blocked]);

  it("sleeps until the TSC deadline, which comes as a host interrupt and is then posted", () => {
    const td = makeTd();
    const seen: number[] = [];
    td.machine.clock.now = 500;
    run(
      td,
      wrmsr(0x80f, SVR_ENABLED),
      wrmsr(0x832, 0x400ecn),
      wrmsr(0x6e0, 2_001_000n),
      rdmsr(0x6e0),
      hlt(0),
      enter(td, seen, asyncExit(6n)),
    );
    expect(td.machine.clock.now).toBe(2_000_000);
    expect(seen).toEqual([0xec]);
    expect(td.kernel.cpu(0).interrupts.get(LOCAL_TIMER_VECTOR)).toBe(1);
    expect(td.vcpu.apic.timer.tscDeadline).toBe(0n);
    expect(td.vcpu.stats).toMatchObject({ haltExits: 1, haltWakeup: 1 });
  });

  it("does not sleep if something is posted already", () => {
    const td = makeTd();
    td.vcpu.apic.write(0x80f, SVR_ENABLED);
    td.machine.guest.push((regs, lp) => {
      td.vm.signalMsi(msi(0x60));
      hlt(0)(regs, lp);
    });
    run(td);
    expect(td.machine.clock.now).toBe(0);
  });

  it("does not sleep if the module holds a virtual interrupt", () => {
    const td = makeTd();
    td.machine.answers.set(TDH.VP_RD, (regs) => {
      regs[GPR.R8] = 1n;
      return 0n;
    });
    run(td, hlt(0));
    expect(td.vcpu.stats.haltWakeup).toBe(0);
  });

  it("with interrupts blocked wakes for an NMI only", () => {
    const td = makeTd();
    td.vcpu.apic.write(0x80f, SVR_ENABLED);
    td.machine.guest.push(hlt(1));
    td.machine.clock.setTimer(100, () => void td.vm.signalMsi(msi(0x60)));
    td.machine.clock.setTimer(200, () => void td.vcpu.nmi());
    run(td);
    expect(td.machine.clock.now).toBe(200);
  });

  it("that nothing can end comes back as if by a signal, and goes on sleeping", () => {
    const td = makeTd();
    td.machine.guest.push(hlt(0));
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTR);
    expect(td.vcpu.mpState).toBe(KVM_MP_STATE.HALTED);
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    td.vcpu.apic.write(0x80f, SVR_ENABLED);
    td.vm.signalMsi(msi(0x60));
    run(td);
  });

  it("lets the VMM decide how idle time passes, and feed input", () => {
    const td = makeTd();
    td.vcpu.apic.write(0x80f, SVR_ENABLED);
    const deadlines: number[] = [];
    td.machine.clock.setTimer(5000, () => undefined);
    td.machine.clock.setTimer(9000, () => undefined);
    td.kernel.idleGovernor = (deadline) => {
      deadlines.push(deadline);
      if (deadlines.length === 2) td.vm.signalMsi(msi(0x60));
      return true;
    };
    td.machine.guest.push(hlt(0));
    run(td);
    expect(deadlines).toEqual([5000, 9000]);
    expect(td.machine.clock.now).toBe(5000);
    td.kernel.idleGovernor = () => false;
    takePir(td);
    td.machine.guest.push(hlt(0));
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(td.machine.clock.now).toBe(5000);
  });

  it("of one vCPU gives way to another that can run", () => {
    const td = makeTd({ vcpus: 2 });
    td.machine.guest.push(hlt(0));
    td.machine.clock.setTimer(5000, () => undefined);
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(td.machine.clock.now).toBe(0);
  });
});

describe("APIC timer", () => {
  it("counts at 25 MHz by the divisor, once", () => {
    const td = makeTd();
    const { apic } = td.vcpu;
    apic.write(0x80f, SVR_ENABLED);
    apic.write(0x83e, 0xbn);
    apic.write(0x832, 0xecn);
    apic.write(0x838, 1000n);
    expect(td.machine.clock.nextDeadline()).toBe(40_000);
    td.machine.clock.now = 10_000;
    expect(apic.read(0x839)).toBe(750n);
    expect(apic.write(0x839, 1n)).toBe(false);
    const seen: number[] = [];
    run(td, tdvmcall(12, [0]), enter(td, seen, asyncExit(6n)));
    expect(seen).toEqual([0xec]);
    expect(td.machine.clock.now).toBe(40_000);
    expect(apic.read(0x839)).toBe(0n);
  });

  it("periodic goes on, not faster than every 200 µs", () => {
    const td = makeTd();
    const { apic } = td.vcpu;
    apic.write(0x80f, SVR_ENABLED);
    apic.write(0x83e, 0xbn);
    apic.write(0x832, 0x200ecn);
    apic.write(0x838, 10n);
    const seen: number[] = [];
    for (const now of [200_000, 400_000, 600_000]) {
      run(td, tdvmcall(12, [0]), enter(td, seen, asyncExit(6n)));
      expect(td.machine.clock.now).toBe(now);
    }
    expect(seen).toEqual([0xec, 0xec, 0xec]);
    apic.write(0x838, 0n);
    expect(td.machine.clock.nextDeadline()).toBeGreaterThan(600_000);
  });

  it("a masked timer and a deadline in another mode do nothing", () => {
    const td = makeTd();
    const { apic } = td.vcpu;
    apic.write(0x80f, SVR_ENABLED);
    apic.timer.tscDeadline = 5n;
    expect(apic.timer.tscDeadline).toBe(0n);
    apic.write(0x832, 0x500ecn);
    apic.timer.tscDeadline = 1n;
    td.machine.clock.now = 10;
    expect(apic.timer.tscDeadline).toBe(1n);
    td.machine.guest.push(tdvmcall(12, [0]));
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(takePir(td)).toEqual([]);
  });

  it("disabling the APIC masks its LVTs", () => {
    const { vcpu } = makeTd();
    vcpu.apic.write(0x80f, SVR_ENABLED);
    vcpu.apic.write(0x835, 0x700n);
    expect(vcpu.apic.read(0x835)).toBe(0x700n);
    vcpu.apic.write(0x80f, 0xffn);
    expect(vcpu.apic.read(0x835)).toBe(0x10700n);
    expect(vcpu.apic.read(0x82f)).toBeNull();
    expect(vcpu.apic.write(0x837, 1n << 32n)).toBe(false);
  });
});

describe("signals and the scheduler tick", () => {
  it("immediate_exit and kick end KVM_RUN", () => {
    const td = makeTd();
    td.vcpu.kvmRun.immediateExit = true;
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    td.vcpu.kvmRun.immediateExit = false;
    td.vcpu.kick();
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(td.machine.leaves).not.toContain("VP_ENTER");
    run(td);
  });

  it("a kick out of the guest interrupts its processor", () => {
    const td = makeTd();
    td.machine.guest.push((regs, lp) => {
      td.vcpu.kick();
      expect(lp.pending).toEqual([0xfd]);
      lp.pending.shift();
      asyncExit(1n, { r9: 0x800000fdn })(regs, lp);
    });
    expect(td.vcpu.run()).toBe(-ERRNO.EINTR);
    expect(td.vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTR);
    expect(td.vcpu.stats.signalExits).toBe(1);
    run(td);
  });

  it("ticks every 4 ms of the clock while the vCPU runs", () => {
    const td = makeTd();
    const { clock } = td.machine;
    const spend =
      (ns: number): GuestStep =>
      (regs, lp) => {
        while (lp.pending.length === 0 && ns > 0) {
          const step = Math.min(ns, clock.nextDeadline() - clock.now);
          clock.advance(step);
          ns -= step;
          clock.runDue();
        }
        const vector = lp.pending.shift();
        if (vector === undefined) STOP(regs, lp);
        else asyncExit(1n, { r9: 0x80000000n | BigInt(vector) })(regs, lp);
      };
    td.machine.guest.push(spend(5e6), spend(5e6), spend(1e6));
    expect(td.vcpu.run()).toBe(0);
    expect(td.kernel.cpu(0).interrupts.get(LOCAL_TIMER_VECTOR)).toBe(2);
    expect(clock.now).toBe(9e6);
  });

  it("the tick stops while the processor idles", () => {
    const td = makeTd();
    td.machine.guest.push(tdvmcall(12, [0]));
    td.vcpu.run();
    expect(td.machine.clock.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
  });
});

it("a vCPU that moves to another processor is flushed where it was", () => {
  const td = makeTd({ vcpus: 2 });
  run(td);
  td.vcpu.setAffinity(1);
  td.machine.calls.length = 0;
  run(td);
  expect(td.machine.calls.map(({ leaf, lp }) => [leaf, lp])).toEqual([
    [TDH.VP_FLUSH, 0],
    [TDH.VP_ENTER, 1],
  ]);
  expect(td.vcpu.kvmRun.internal.data[1]).toBe(1n);
});
