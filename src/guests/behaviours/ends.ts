import * as x from "../../arch/assembler/index.js";
import { RESET_CONTROL } from "../../vmm/ports.js";
import { putFatalText, reportFatalError } from "../../vmm/shim/fatal-error.js";
import { defineSmallTd } from "../runtime/define.js";

/** The other ways in which a guest can end. */

export const tripleFault = defineSmallTd({
  name: "triple-fault",
  summary: "meets an exception that nobody handles: KVM_EXIT_SHUTDOWN",
  console: "falling\n",
  outcome: "guest-fatal",
  main(code) {
    code.print("falling\n");
    code.asm.op("ud2");
  },
});

export const fatalError = defineSmallTd({
  name: "fatal-error",
  summary: "reports a fatal error by TDVMCALL, with code and text",
  console: "giving up\n",
  outcome: "guest-fatal",
  main(code) {
    const { asm } = code;
    const text = asm.label("fatalText");
    const report = asm.label("report");
    code.print("giving up\n");
    asm.jmp(report);
    putFatalText(asm, text, "this guest has given up");
    asm.bind(report);
    asm.mov(x.r12d, 42);
    reportFatalError(asm, text);
  },
});

export const reset = defineSmallTd({
  name: "reset",
  summary: "asks for a reset, which a TD cannot have",
  console: "again\n",
  outcome: "reset",
  main(code) {
    code.print("again\n");
    code.asm.mov(x.eax, RESET_CONTROL.RESET_CPU | RESET_CONTROL.SYSTEM_RESET);
    code.out(RESET_CONTROL.PORT, 1);
  },
});

export const sleep = defineSmallTd({
  name: "sleep",
  summary: "halts with interrupts blocked, for good",
  console: "good night\n",
  outcome: undefined,
  main(code) {
    code.print("good night\n");
    const asleep = code.asm.here("asleep");
    code.vmcall("HLT", 1);
    code.asm.jmp(asleep);
  },
});

/** Touches private memory that it has not accepted: with SEPT_VE_DISABLE that is the guest's bug, and KVM ends the VM. */
export const unaccepted = defineSmallTd({
  name: "unaccepted",
  summary: "touches private memory that it has not accepted: KVM ends the VM",
  console: "too early\n",
  accepted: 0x1_0000,
  outcome: "error",
  main(code) {
    code.print("too early\n");
    code.asm.mov(x.rax, x.qword(0x2_0000));
    code.finish("not reached\n");
  },
});
