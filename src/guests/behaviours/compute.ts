import * as x from "../../arch/assembler/index.js";
import { defineSmallTd } from "../runtime/define.js";
import { checksumText, emitChecksum } from "./checksum.js";

const PASSES = 20;

export const compute = defineSmallTd({
  name: "compute",
  summary: "computes a checksum over private memory in 1.8 million instructions and prints it",
  get console() {
    return `computing\nchecksum ${checksumText(PASSES)}\n`;
  },
  main(code) {
    code.print("computing\n");
    emitChecksum(code, PASSES);
    code.asm.push(x.rax);
    code.print("checksum ");
    code.asm.pop(x.rax);
    code.printHex();
    code.finish("\n");
  },
});
