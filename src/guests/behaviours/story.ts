import { defineSmallTd } from "../runtime/define.js";
import { checksumText, emitChecksum, printChecksum } from "./checksum.js";

const PASSES = 180;
/** The second part is there to be struck; it ends by itself if nothing does. */
const MORE_PASSES = 1000;

/** What the story's guest must answer. */
export const storyAnswer = (): string => checksumText(PASSES);

/** The tour's story without Debian: something checkable while SMIs strike, then work in which a memory error can be met. */
export const story = defineSmallTd({
  name: "story",
  summary: "computes for 16 million instructions, answers, and goes on until something strikes it",
  get console() {
    return `tour: computing a checksum over private memory\ntour: the answer is ${storyAnswer()}\ntour: going on\n`;
  },
  main(code) {
    code.print("tour: computing a checksum over private memory\n");
    printChecksum(code, "tour: the answer is ", PASSES);
    code.print("\ntour: going on\n");
    emitChecksum(code, MORE_PASSES);
    code.powerOff();
  },
});
