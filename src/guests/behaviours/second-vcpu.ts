import * as x from "../../arch/assembler/index.js";
import { dword } from "../../arch/assembler/index.js";
import { defineSmallTd } from "../runtime/define.js";
import { SMALL_TD } from "../runtime/layout.js";

const HELLO = 0x5a;

export const secondVcpu = defineSmallTd({
  name: "second-vcpu",
  summary: "two vCPUs: one waits for the other's word in private memory",
  console: "waiting\nheard from vCPU 1\n",
  vcpus: 2,
  main(code) {
    const { asm } = code;
    code.print("waiting\n");
    asm.mov(x.edi, SMALL_TD.DATA);
    const wait = asm.here("wait");
    asm.op("pause");
    asm.cmp(dword(x.rdi), HELLO);
    asm.j("ne", wait);
    code.finish("heard from vCPU 1\n");
  },
  others(code) {
    const { asm } = code;
    asm.mov(x.edi, SMALL_TD.DATA);
    asm.mov(dword(x.rdi), HELLO);
  },
});
