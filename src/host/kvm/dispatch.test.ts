import { describe, expect, it } from "vitest";
import { ERRNO } from "../../arch/errno.js";
import { KVM_EXIT } from "../../arch/kvm-uapi.js";
import { GPR } from "../../platform/seam.js";
import { INVALID_EXIT_REASON, synthesizeExitReason } from "./exit-reason.js";
import { asyncExit, makeTd, tdvmcall } from "./testing.js";

const halves = (rax: bigint): [number, number] => [Number(rax >> 32n), Number(rax & 0xffff_ffffn)];

describe("synthesis of the exit reason", () => {
  it.each([
    [0x0000000000000006n, 6],
    [0x6000000500000006n, 6],
    [0x4000000200000000n, 0],
    [0x4000000100000002n, 2],
    [0x4000000180000021n, 0x80000021],
    [0x6000000700000000n, 0],
    [0x0000000000000031n, INVALID_EXIT_REASON],
    [0x8000020000000092n, INVALID_EXIT_REASON],
    [0x6000000200000006n, INVALID_EXIT_REASON],
    [0xe000060400000000n, INVALID_EXIT_REASON],
    [0x8000ff00ffff0000n, INVALID_EXIT_REASON],
    [0x000000000400004dn, 0x400004d],
  ])("of RAX 0x%s is %s", (rax, reason) => {
    expect(synthesizeExitReason(...halves(rax), true, 0, 0)).toBe(reason);
  });

  it.each([
    [10, 10],
    [12, 12],
    [30, 30],
    [31, 31],
    [32, 32],
    [48, 49],
    [54, 77],
    [0x10001, 77],
  ])("of TDVMCALL %s is %s", (r11, reason) => {
    expect(synthesizeExitReason(0, 77, true, 0, r11)).toBe(reason);
  });

  it("of a call with R10 set is VMCALL", () => {
    expect(synthesizeExitReason(0, 77, false, 0, 10)).toBe(18);
  });
});

describe("dispatch", () => {
  it.each([
    ["MSMI", 0x6000000500000006n],
    ["direct #MC", 0x6000000500000000n],
    ["1.0 status", 0x4000000500000006n],
    ["wrong APIC mode", 0x6000000700000000n],
    ["fatal TD", 0xe000060400000000n],
    ["epoch busy", 0x8000020100000000n],
  ])("%s goes to user space with the whole of RAX", (_name, rax) => {
    const { machine, vcpu, vm } = makeTd();
    machine.guest.push(asyncExit(rax));
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.INTERNAL_ERROR);
    expect(vcpu.kvmRun.internal).toMatchObject({ suberror: 4, ndata: 2 });
    expect([...vcpu.kvmRun.internal.data.slice(0, 2)]).toEqual([rax, 0n]);
    expect(vm.vmDead).toBe(false);
  });

  it("an MSMI never reaches the handler of plain SMIs, and KVM calls no #MC handler for it", () => {
    const { machine, vcpu, vm } = makeTd();
    machine.guest.push(asyncExit(6n), asyncExit(0x6000000500000006n, { rcx: 1n }));
    expect(vcpu.run()).toBe(0);
    expect(vm.exitCounts).toEqual({ OTHER_SMI: 2 });
    expect(machine.seen.some(({ event }) => event === "machine-check")).toBe(false);
    expect(vcpu.kvmRun.internal.data[0]).toBe(0x6000000500000006n);
  });

  it("a triple fault is a shutdown, though its status is not recoverable", () => {
    const { machine, vcpu } = makeTd();
    machine.guest.push(asyncExit(0x4000000100000002n));
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.SHUTDOWN);
  });

  it("a failed entry names its 32-bit reason", () => {
    const { machine, vcpu } = makeTd();
    machine.guest.push(asyncExit(0x4000000180000021n));
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.FAIL_ENTRY);
    expect(vcpu.kvmRun.failEntry).toEqual({ hardwareEntryFailureReason: 0x80000021n, cpu: 0 });
  });

  it("a true EPT misconfiguration bugs the VM", () => {
    const { machine, vcpu, vm } = makeTd();
    machine.guest.push(asyncExit(49n));
    expect(vcpu.run()).toBe(-ERRNO.EIO);
    expect(vm.vmBugged).toBe(true);
    expect(vcpu.run()).toBe(-ERRNO.EIO);
    expect(vm.exitCounts).toEqual({});
  });

  it("a SEAMCALL that fails as an instruction bugs the VM and goes to user space", () => {
    const { machine, vcpu, vm } = makeTd();
    machine.answers.set(0, () => "vmfailinvalid");
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.internal.data[0]).toBe(0x8000ff00ffff0000n);
    expect(vm.vmBugged).toBe(true);
  });

  it("a busy entry is tried again, with interrupts open in between", () => {
    const { machine, vcpu, vm } = makeTd();
    machine.guest.push(
      (regs, lp) => {
        asyncExit(0x8000020000000092n)(regs, lp);
        lp.raiseInterrupt(0x40);
      },
      asyncExit(0x80000200000000a9n),
      asyncExit(7n),
    );
    expect(vcpu.run()).toBe(0);
    expect(machine.leaves).toEqual(["VP_WR", "VP_ENTER", "VP_ENTER", "VP_ENTER"]);
    expect(vm.kernel.cpu(0).interrupts.get(0x40)).toBe(1);
    expect(vm.exitCounts).toEqual({ "0xffff": 2, INTERRUPT_WINDOW: 1 });
  });

  it.each([7, 3, 42, 74, 16])("reason %s has no handler", (reason) => {
    const { machine, vcpu } = makeTd();
    machine.guest.push(asyncExit(BigInt(reason)));
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.internal.data[0]).toBe(BigInt(reason));
  });

  it("an NMI exit runs the host's handler once and resumes", () => {
    const { machine, vcpu, kernel } = makeTd();
    machine.guest.push(asyncExit(0n, { r9: 0x80000202n }), asyncExit(7n));
    expect(vcpu.run()).toBe(0);
    expect(kernel.cpu(0).nmis).toBe(1);
  });

  it("an external interrupt runs the host's handler for its vector", () => {
    const { machine, vcpu, kernel } = makeTd();
    machine.guest.push(asyncExit(1n, { r9: 0x80000055n }), asyncExit(7n));
    expect(vcpu.run()).toBe(0);
    expect(kernel.cpu(0).interrupts.get(0x55)).toBe(1);
    expect(vcpu.stats).toMatchObject({ irqExits: 1, exits: 2 });
  });

  it("another exception goes to user space", () => {
    const { machine, vcpu } = makeTd();
    machine.guest.push(asyncExit(0n, { r9: 0x80000301n }));
    expect(vcpu.run()).toBe(0);
    expect(vcpu.kvmRun.exitReason).toBe(KVM_EXIT.EXCEPTION);
    expect(vcpu.kvmRun.ex).toEqual({ exception: 1, errorCode: 0 });
  });

  it("traces exits as the kernel does", () => {
    const { machine, vcpu } = makeTd();
    machine.guest.push(asyncExit(6n, { rcx: 0n }), tdvmcall(30, [1, 1, 0x3f8, 0x41]));
    vcpu.run();
    const exits = machine.seen.filter(({ event }) => event === "kvm-exit").map(({ fields }) => fields);
    expect(exits).toMatchObject([
      { reason: 6, name: "0x6", info1: 0n, rip: 0n },
      { reason: 30, name: "IO_INSTRUCTION", info1: 0xffccn },
    ]);
    const kinds = machine.seen.map(({ event }) => event);
    expect(kinds).toEqual(["kvm-entry", "kvm-exit", "kvm-entry", "kvm-exit", "kvm-pio", "kvm-userspace-exit"]);
    expect(vcpu.regs[GPR.R12]).toBe(1n);
  });
});
