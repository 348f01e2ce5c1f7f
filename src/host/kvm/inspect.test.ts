import { expect, it } from "vitest";
import { inspectVm } from "./inspect.js";
import { asyncExit, makeTd } from "./testing.js";

it("a VM shows what KVM knows of it", () => {
  const { vm, vcpu, machine } = makeTd();
  vcpu.preFaultMemory({ gpa: 0, size: 0x2000 });
  machine.guest.push(asyncExit(0x6000000500000006n, { rcx: 1n }));
  vcpu.run();
  vcpu.apic.write(0x80f, 0x1ffn);
  vcpu.apic.write(0x838, 100n);
  vm.signalMsi({ addressLo: 0xfee00000, addressHi: 0, data: 0x41 });
  expect(inspectVm(vm)).toMatchObject({
    state: "RUNNABLE",
    dead: false,
    privatePages: 2,
    septPages: 3,
    slots: [{ id: 0, gpa: 0, pages: 1024 }],
    exits: { OTHER_SMI: 1 },
    vcpus: [
      {
        id: 0,
        lp: 0,
        mpState: "RUNNABLE",
        status: 0x6000000500000006n,
        exitReason: 6,
        posted: [0x41],
        timerDeadlineNs: 8000,
      },
    ],
  });
  vm.destroy();
  expect(inspectVm(vm)).toMatchObject({ dead: true, hkid: 0, tdr: 0, privatePages: 0, septPages: 0, vcpus: [] });
});
