import * as x from "../../arch/assembler/index.js";
import { dword, qword } from "../../arch/assembler/index.js";
import { KVM_CPUID_SIGNATURE } from "../../arch/kvm-uapi.js";
import { EXIT_REASON } from "../../arch/vmx.js";
import { tdcall } from "../../vmm/shim/tdx-calls.js";
import { defineSmallTd } from "../runtime/define.js";
import { SMALL_TD } from "../runtime/layout.js";

const VECTOR_VE = 20;

/** As Linux does it: CPUID of a hypervisor leaf causes #VE; the handler asks the host and steps over the instruction. */
export const virtualizationException = defineSmallTd({
  name: "ve",
  summary: "executes CPUID of KVM's leaf: #VE, TDVMCALL, and KVM's signature",
  console: "hypervisor: KVMKVMKVM\n",
  main(code) {
    const { asm } = code;
    const handler = asm.label("handler");
    const unexpected = asm.label("unexpected");
    code.setGate(VECTOR_VE, handler);
    asm.mov(x.eax, KVM_CPUID_SIGNATURE);
    asm.xor(x.ecx, x.ecx);
    asm.op("cpuid");
    asm.mov(x.edi, SMALL_TD.DATA);
    asm.mov(dword(x.rdi), x.ebx);
    asm.mov(dword(x.rdi, 4), x.ecx);
    asm.mov(dword(x.rdi, 8), x.edx);
    code.print("hypervisor: ");
    asm.mov(x.esi, SMALL_TD.DATA);
    code.printAt();
    code.finish("\n");

    asm.bind(handler);
    asm.mov(x.rdi, x.rax);
    asm.mov(x.rsi, x.rcx);
    tdcall(asm, "VP_VEINFO_GET");
    asm.mov(x.r10d, x.r10d); // length of the instruction, bits 31:0
    asm.add(qword(x.rsp), x.r10);
    asm.cmp(x.rcx, EXIT_REASON.CPUID);
    asm.j("ne", unexpected);
    asm.mov(x.r12, x.rdi);
    asm.mov(x.r13, x.rsi);
    code.vmcall("CPUID");
    asm.mov(x.rax, x.r12);
    asm.mov(x.rbx, x.r13);
    asm.mov(x.rcx, x.r14);
    asm.mov(x.rdx, x.r15);
    asm.op("iretq");
    asm.bind(unexpected);
    code.finish("unexpected #VE\n");
  },
});
