// What a 4 KiB page costs on its way into a TD: TDH.MEM.PAGE.AUG through KVM_PRE_FAULT_MEMORY, and TDG.MEM.PAGE.ACCEPT in a loop
// of the guest. Two small TDs that differ in nothing but the size of their memory; the difference is the pages'.

import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { root } from "../bin/prepare.js";

const { PAGE_SIZE } = await import(join(root, "dist/arch/page.js"));
const { defineSmallTd } = await import(join(root, "dist/guests/runtime/define.js"));
const { TdMachine } = await import(join(root, "dist/vmm/machine.js"));
const { powerOn } = await import(join(root, "dist/vmm/system.js"));
const { builtInterpreter } = await import(join(root, "dist/cli/interpreter-file.js"));

const MIB = 1 << 20;
const SMALL = MIB;
const LARGE = 256 * MIB;

/** Milliseconds to launch a small TD with this much memory, and to run it until it has accepted all and powers off. */
function timeTd(memory) {
  const td = defineSmallTd({ name: "pages", summary: "", console: "", memory, main: (code) => code.powerOff() });
  const image = td.build();
  const system = powerOn({ guestMemory: memory, interpreter: builtInterpreter() });
  const start = performance.now();
  const machine = new TdMachine(system, { image, vcpus: 1, rtc: 0 });
  const launched = performance.now();
  for (let step = machine.step(1e9); step.kind !== "ended"; step = machine.step(1e9))
    if (step.kind === "idle") throw new Error("the small TD waits");
  if (machine.end.outcome !== "power-off") throw new Error(`the small TD ended with ${machine.end.outcome}`);
  return { launch: launched - start, run: performance.now() - launched };
}

/** Microseconds for each page: `aug` and `accept`, with all that the host and the core have to do around the module. */
export function timePages() {
  const small = timeTd(SMALL);
  const large = timeTd(LARGE);
  const pages = (LARGE - SMALL) / PAGE_SIZE;
  const each = (field) => ((large[field] - small[field]) * 1000) / pages;
  return { aug: each("launch"), accept: each("run") };
}
