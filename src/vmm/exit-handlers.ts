import { ERRNO, errnoName } from "../arch/errno.js";
import {
  KVM_EXIT,
  KVM_EXIT_IO_IN,
  KVM_HC,
  KVM_MAP_GPA_RANGE_ENCRYPTED,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_MEMORY_EXIT_FLAG_PRIVATE,
  KVM_SYSTEM_EVENT_TDX_FATAL,
} from "../arch/kvm-uapi.js";
import type { KvmRun } from "../host/kvm/kvm-run.js";
import type { Vm } from "../host/kvm/vm.js";
import type { Board } from "./devices/board.js";
import { type End, finalExit } from "./end.js";
import { readFatalReport } from "./fatal-report.js";
import type { Slot } from "./launch.js";
import { PAGE_SIZE } from "./shim/layout.js";

/** What an exit is handled with. */
export interface ExitContext {
  readonly vm: Vm;
  readonly slots: readonly Slot[];
  readonly board: Board;
  readonly run: KvmRun;
}

/** An exit of KVM_RUN; undefined: the vCPU goes on. */
type ExitHandler = (context: ExitContext) => End | undefined;

const HANDLERS: ReadonlyMap<number, ExitHandler> = new Map<number, ExitHandler>([
  [KVM_EXIT.IO, portIo],
  [KVM_EXIT.MMIO, mmio],
  [KVM_EXIT.HYPERCALL, hypercall],
  [KVM_EXIT.SYSTEM_EVENT, systemEvent],
  [KVM_EXIT.SHUTDOWN, shutdown],
  [KVM_EXIT.INTERNAL_ERROR, internalError],
  // GetQuote and SetupEventNotifyInterrupt: KVM's preset answer is that nobody serves them.
  [KVM_EXIT.TDX, () => undefined],
]);

/** KVM_RUN has returned 0. */
export function handleExit(context: ExitContext): End | undefined {
  const { exitReason } = context.run;
  const handler = HANDLERS.get(exitReason);
  if (handler) return handler(context);
  const kvmExit = finalExit(exitReason);
  return { outcome: "error", message: `KVM left with ${kvmExit.name}, which nobody here can handle`, kvmExit };
}

/** KVM_RUN has failed. A touch of the wrong alias is a wish to convert; everything else is an end. */
export function handleRunError(error: number, context: ExitContext): End | undefined {
  const { run } = context;
  if (run.exitReason === KVM_EXIT.MEMORY_FAULT && error === -ERRNO.EFAULT) return memoryFault(context);
  const kvmExit = finalExit(run.exitReason);
  return {
    outcome: "error",
    message: `KVM_RUN failed with ${errnoName(-error)}: ${context.vm.kernel.log.at(-1) ?? ""}`,
    kvmExit,
  };
}

function portIo({ run: { io }, board }: ExitContext): undefined {
  if (io.direction === KVM_EXIT_IO_IN) {
    const value = board.ports.read(io.port, io.size);
    if (io.size === 1) io.data.setUint8(0, value);
    else if (io.size === 2) io.data.setUint16(0, value, true);
    else io.data.setUint32(0, value, true);
    return;
  }
  const value =
    io.size === 1 ? io.data.getUint8(0) : io.size === 2 ? io.data.getUint16(0, true) : io.data.getUint32(0, true);
  board.ports.write(io.port, io.size, value);
}

function mmio({ run: { mmio }, board }: ExitContext): undefined {
  if (mmio.isWrite) board.mmio.write(mmio.physAddr, mmio.len, mmio.data);
  else board.mmio.read(mmio.physAddr, mmio.len, mmio.data);
}

/** MapGPA in chunks: KVM_HC_MAP_GPA_RANGE is the only hypercall that we asked for. */
function hypercall(context: ExitContext): undefined {
  const { hypercall } = context.run;
  const [gpa = 0n, pages = 0n, attributes = 0n] = hypercall.args;
  if (hypercall.nr !== KVM_HC.MAP_GPA_RANGE) {
    hypercall.ret = BigInt(ERRNO.EINVAL);
    return;
  }
  const isPrivate = (attributes & BigInt(KVM_MAP_GPA_RANGE_ENCRYPTED)) !== 0n;
  hypercall.ret = BigInt(convert(context, Number(gpa), Number(pages) * PAGE_SIZE, isPrivate));
}

/**
 * Makes a range private or shared; a positive error number if that fails. What lies outside of all memory is for devices: it
 * is shared as it stands, and cannot be made private.
 */
function convert({ vm, slots }: ExitContext, gpa: number, size: number, isPrivate: boolean): number {
  const inside = slots.filter((slot) => gpa < slot.gpa + slot.size && gpa + size > slot.gpa);
  if (inside.length === 0) return isPrivate ? ERRNO.EINVAL : 0;
  const attributes = isPrivate ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
  const error = vm.setMemoryAttributes({ address: gpa, size, attributes });
  if (error !== 0) return -error;
  if (isPrivate) return 0;
  for (const slot of inside) {
    const start = Math.max(gpa, slot.gpa);
    const end = Math.min(gpa + size, slot.gpa + slot.size);
    slot.file.punchHole(start - slot.gpa, end - start);
  }
  return 0;
}

function memoryFault(context: ExitContext): End | undefined {
  const { memoryFault: fault } = context.run;
  const isPrivate = (fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE) !== 0;
  if (convert(context, fault.gpa, fault.size, isPrivate) === 0) return undefined;
  const message = `the guest touched private memory at 0x${fault.gpa.toString(16)}, where there is none`;
  return { outcome: "guest-fatal", message, kvmExit: finalExit(KVM_EXIT.MEMORY_FAULT) };
}

function systemEvent({ run: { systemEvent: event } }: ExitContext): End {
  const data = [...event.data.subarray(0, event.ndata)];
  const kvmExit = finalExit(KVM_EXIT.SYSTEM_EVENT, { data });
  if (event.type !== KVM_SYSTEM_EVENT_TDX_FATAL) {
    return { outcome: "error", message: `system event of unknown type ${event.type}`, kvmExit };
  }
  const { code, text } = readFatalReport(event.data);
  return { outcome: "guest-fatal", message: `the guest reported a fatal error, code ${code}: "${text}"`, kvmExit };
}

function shutdown(): End {
  return { outcome: "guest-fatal", message: "triple fault in the guest", kvmExit: finalExit(KVM_EXIT.SHUTDOWN) };
}

/** How KVM tells of a TD that the module has given up: data[0] is the status of TDH.VP.ENTER. */
function internalError({ run: { internal } }: ExitContext): End {
  const data = [...internal.data.subarray(0, internal.ndata)];
  const kvmExit = finalExit(KVM_EXIT.INTERNAL_ERROR, { suberror: internal.suberror, data });
  const status = (data[0] ?? 0n).toString(16);
  return { outcome: "td-fatal", message: `TDH.VP.ENTER ended with status 0x${status}`, kvmExit };
}
