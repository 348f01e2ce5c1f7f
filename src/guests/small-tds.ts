import { compute } from "./behaviours/compute.js";
import { echo } from "./behaviours/echo.js";
import { fatalError, reset, sleep, tripleFault, unaccepted } from "./behaviours/ends.js";
import { hello } from "./behaviours/hello.js";
import { conversion, lateAccept } from "./behaviours/memory.js";
import { secondVcpu } from "./behaviours/second-vcpu.js";
import { story } from "./behaviours/story.js";
import { timer } from "./behaviours/timer.js";
import { virtualizationException } from "./behaviours/virtualization-exception.js";
import type { SmallTd } from "./small-td.js";

/** Every small TD, in the order of a list. */
export const SMALL_TDS: readonly SmallTd[] = [
  hello,
  compute,
  story,
  virtualizationException,
  timer,
  echo,
  lateAccept,
  conversion,
  secondVcpu,
  sleep,
  fatalError,
  tripleFault,
  unaccepted,
  reset,
];

export const findSmallTd = (name: string): SmallTd | undefined => SMALL_TDS.find((td) => td.name === name);
