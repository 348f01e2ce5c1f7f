import { defineSmallTd } from "../runtime/define.js";
import { checksumText, printChecksum } from "./checksum.js";

const PASSES = 20;

export const compute = defineSmallTd({
  name: "compute",
  summary: "computes a checksum over private memory in 1.8 million instructions and prints it",
  get console() {
    return `computing\nchecksum ${checksumText(PASSES)}\n`;
  },
  main(code) {
    code.print("computing\n");
    printChecksum(code, "checksum ", PASSES);
    code.finish("\n");
  },
});
