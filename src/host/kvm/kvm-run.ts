/**
 * struct kvm_run: what a vCPU shares with its VMM. One object per vCPU, reused by every exit; a member of the union is
 * meaningful only after its own exit reason. Names are the structure's, in camelCase.
 */
export class KvmRun {
  /** In: KVM_RUN returns -EINTR before it enters the guest. */
  immediateExit = false;
  /** Out: one of `KVM_EXIT`. */
  exitReason = 0;
  /** KVM cannot see RFLAGS of a TD: always 0. */
  readonly ifFlag = 0;

  readonly ex = { exception: 0, errorCode: 0 };
  /** `data` is the PIO data page: `size` little-endian bytes, written by the VMM where direction is KVM_EXIT_IO_IN. */
  readonly io = { direction: 0, size: 0, port: 0, count: 0, data: new DataView(new ArrayBuffer(8)) };
  /** `physAddr` carries no SHARED bit. */
  readonly mmio = { physAddr: 0, data: new DataView(new ArrayBuffer(8)), len: 0, isWrite: false };
  readonly hypercall = { nr: 0, ret: 0n, args: new BigUint64Array(6), flags: 0 };
  readonly failEntry = { hardwareEntryFailureReason: 0n, cpu: 0 };
  readonly internal = { suberror: 0, ndata: 0, data: new BigUint64Array(16) };
  readonly systemEvent = { type: 0, ndata: 0, data: new BigUint64Array(16) };
  readonly msr = { error: 0, reason: 0, index: 0, data: 0n };
  /** `gpa` is page aligned and carries no SHARED bit. */
  readonly memoryFault = { flags: 0, gpa: 0, size: 0 };
  readonly tdx = {
    flags: 0n,
    /** The TDVMCALL leaf. */
    nr: 0,
    /** In: becomes the guest's R10. */
    ret: 0n,
    getQuote: { gpa: 0n, size: 0n },
    getTdvmcallInfo: { leaf: 0n, r11: 0n, r12: 0n, r13: 0n, r14: 0n },
    setupEventNotify: { vector: 0n },
  };
}
