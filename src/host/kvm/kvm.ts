import { ERRNO } from "../../arch/errno.js";
import { KVM_API_VERSION, KVM_CAP, KVM_VCPU_MMAP_SIZE, KVM_X86_TDX_VM } from "../../arch/kvm-uapi.js";
import { TDX_FEATURES0 } from "../../arch/tdx-abi.js";
import type { HostKernel } from "../kernel.js";
import type { TdxHost } from "../tdx/tdx-host.js";
import { checkCapability } from "./capabilities.js";
import { Vm } from "./vm.js";

/** TSC of the host, and what a TD gets if nobody asks for another one: 1 GHz, a tick per ns of the clock. */
const HOST_TSC_KHZ = 1_000_000;

/** /dev/kvm. Methods are its ioctls; they give 0 or an error number, negated, unless said otherwise. */
export class Kvm {
  /** TDX as KVM can use it; null: KVM_CREATE_VM refuses the type. */
  readonly #tdx: TdxHost | null;

  constructor(readonly kernel: HostKernel) {
    this.#tdx = usableTdx(kernel);
  }

  /** KVM_GET_API_VERSION. */
  getApiVersion(): number {
    return KVM_API_VERSION;
  }

  /** KVM_GET_VCPU_MMAP_SIZE. */
  getVcpuMmapSize(): number {
    return KVM_VCPU_MMAP_SIZE;
  }

  /** KVM_CHECK_EXTENSION. */
  checkExtension(cap: number): number {
    if (cap === KVM_CAP.VM_TYPES && this.#tdx === null) return 0;
    if (cap === KVM_CAP.MAX_VCPUS) return this.#tdx?.info.maxVcpusPerTd ?? 0;
    if (cap === KVM_CAP.NR_VCPUS) return this.kernel.cpus.length;
    return checkCapability(cap);
  }

  /** KVM_CREATE_VM: the VM, or an error number, negated. Only TDs can be made. */
  createVm(type: number): Vm | number {
    if (type !== KVM_X86_TDX_VM || this.#tdx === null) return -ERRNO.EINVAL;
    return new Vm(this.kernel, this.#tdx, HOST_TSC_KHZ);
  }
}

/** kvm_intel.tdx: KVM asks more of the module than the kernel does (kvm-tdx-host 3.1). */
function usableTdx(kernel: HostKernel): TdxHost | null {
  const { tdx } = kernel;
  if (tdx === null) return null;
  if ((tdx.info.features0 & TDX_FEATURES0.TOPOLOGY_ENUM) === 0n) {
    kernel.printk("kvm_intel: TDX_FEATURES0.TOPOLOGY_ENUM is clear");
    return null;
  }
  if (tdx.info.maxVcpusPerTd < kernel.cpus.length) {
    kernel.printk(`kvm_intel: Disable TDX: MAX_VCPU_PER_TD ${tdx.info.maxVcpusPerTd} is below the number of CPUs`);
    return null;
  }
  return tdx;
}
