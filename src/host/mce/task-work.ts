import { ERRNO } from "../../arch/errno.js";
import { type MemoryFailure, MF } from "../mm/memory-failure.js";
import { forcedSignal, type Task } from "../mm/task.js";
import { canRestart, type MachineCheckRecord } from "./record.js";

/** More machine checks than this before the task is back in user mode: something else is wrong. */
const MACHINE_CHECKS_MAX = 10;

export interface QueuedMachineCheck {
  readonly task: Task;
  readonly record: MachineCheckRecord;
  /** The lost page. */
  readonly pfn: number;
  /** Names of the kernel's functions: kill_me_now, kill_me_maybe, kill_me_never. */
  readonly work: "kill-now" | "kill-maybe" | "kill-never";
  readonly memoryFailure: MemoryFailure;
}

/**
 * Leaves a lost page to the task that ran into it, before it is back in user mode (queue_task_work). Returns why the kernel
 * must stop instead, or null.
 */
export function queueTaskWork(queued: QueuedMachineCheck): string | null {
  const { task, pfn } = queued;
  task.mceCount += 1;
  if (task.mceCount === 1) task.mcePfn = pfn;
  if (task.mceCount > MACHINE_CHECKS_MAX) return "Too many machine checks before the task could handle one";
  if (task.mcePfn !== pfn) return "Machine check for another page before the task could handle the first";
  if (task.mceCount === 1) task.queueWork(() => runTaskWork(queued));
  return null;
}

function runTaskWork({ task, record, pfn, work, memoryFailure }: QueuedMachineCheck): void {
  task.mceCount = 0;
  task.mcePfn = null;
  if (work === "kill-never") {
    memoryFailure.memoryFailure(pfn, 0, task, record.lp);
    return;
  }
  if (work === "kill-maybe") {
    const flags = MF.ACTION_REQUIRED | (canRestart(record.mcgStatus) ? 0 : MF.MUST_KILL);
    const result = memoryFailure.memoryFailure(pfn, flags, task, record.lp);
    if (result === 0 || result === -ERRNO.EHWPOISON || result === -ERRNO.EOPNOTSUPP) return;
  }
  task.sendSignal(forcedSignal());
}
