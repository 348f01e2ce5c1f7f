import { installFirmware } from "../bios/smi-handler.js";
import { Core } from "../cpu/core.js";
import { HostKernel } from "../host/kernel.js";
import { Kvm } from "../host/kvm/kvm.js";
import type { HostProfile } from "../host/mm/host-profile.js";
import { Platform } from "../platform/platform.js";
import { type ModuleProfile, TdxModule } from "../tdx-module/index.js";
import { alignUp } from "./bytes.js";
import type { System } from "./machine.js";

export interface SystemConfig {
  /** Bytes of RAM that a guest will have. */
  readonly guestMemory: number;
  /** Bytes of its measured pages, for which the computer gets as much memory more; default: 64 MiB. */
  readonly imageBytes?: number;
  /** One logical processor each. */
  readonly vcpus?: number;
  readonly seed?: bigint;
  readonly emca?: boolean;
  /** The module's anti-single-step filter. */
  readonly filter?: boolean;
  readonly moduleProfile?: ModuleProfile;
  readonly hostProfile?: HostProfile;
  /** The core's interpreter for shared memory, where somebody has compiled it before; default: it is generated now. */
  readonly interpreter?: WebAssembly.Module | undefined;
}

const MIB = 1 << 20;
const IMAGE_BYTES = 64 * MIB;
/** Kernel, TDX module and the VMM's own needs. */
const HOST_BYTES = 32 * MIB;
/** PAMT, Secure EPT and mirror tables take up to a part in so many of the guest's memory. */
const METADATA_PART = 64;

/** Switches a computer on: hardware and firmware, TDX module, host kernel with KVM. */
export function powerOn(config: SystemConfig): System {
  const { guestMemory, imageBytes = IMAGE_BYTES, vcpus = 1, seed = 0n, emca = true } = config;
  const needed = guestMemory + guestMemory / METADATA_PART + imageBytes + HOST_BYTES;
  const platform = new Platform(
    { hostMemoryBytes: alignUp(needed, MIB), logicalProcessors: vcpus, seed, emca },
    (memory) => new Core(memory, memory.buffer instanceof ArrayBuffer ? undefined : config.interpreter),
  );
  installFirmware(platform);
  const { filter = true, moduleProfile = "1.5", hostProfile = "fixed" } = config;
  platform.loadModule(new TdxModule({ moduleProfile, filter }));
  const kernel = new HostKernel(platform, { profile: hostProfile });
  return { platform, kernel, kvm: new Kvm(kernel) };
}
