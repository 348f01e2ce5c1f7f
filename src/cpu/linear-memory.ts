import { EXIT_REASON } from "../arch/vmx.js";
import { logAccess } from "./debug.js";
import { CpuException, VECTOR, VmExitSignal } from "./faults.js";
import type { InterpreterExports } from "./interpreter/generate.js";
import { FAULT, LOCAL, PAGE_META, RAM_BASE } from "./layout.js";
import type { CpuState } from "./state.js";
import type { LinearMemory } from "./system/environment.js";

const PAGE = 4096n;
const ACCESS = { READ: 1, WRITE: 2, SUPERVISOR: 8 } as const;

/** An access of a system instruction or of event delivery met a page that the platform must decide on. */
export class OddPageSignal {}

/** The fault that the last failed translation recorded, as something to throw. */
export function recordedFault(state: CpuState): CpuException | VmExitSignal | OddPageSignal {
  const code = state.get32(LOCAL.FAULT_CODE);
  switch (state.get32(LOCAL.FAULT_KIND)) {
    case FAULT.PAGE:
      return new CpuException(VECTOR.PF, code, state.get(LOCAL.FAULT_ADDRESS));
    case FAULT.EPT_VIOLATION:
    case FAULT.EPT_MISCONFIG:
      return new VmExitSignal({
        reason:
          state.get32(LOCAL.FAULT_KIND) === FAULT.EPT_VIOLATION ? EXIT_REASON.EPT_VIOLATION : EXIT_REASON.EPT_MISCONFIG,
        qualification: BigInt(code & 0x7fff_ffff),
        guestLinearAddress: state.get(LOCAL.FAULT_ADDRESS),
        guestPhysicalAddress: Number(state.get(LOCAL.FAULT_GPA)),
      });
    case FAULT.ODD_PAGE:
    case FAULT.WATCH:
      return new OddPageSignal();
    default:
      return new CpuException(VECTOR.GP, 0);
  }
}

/** Memory by linear address for code outside the executor. */
export class TranslatedMemory implements LinearMemory {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(
    memory: WebAssembly.Memory,
    private readonly state: CpuState,
    private readonly exports: InterpreterExports,
  ) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
  }

  /** WebAssembly address of a linear address. */
  #translate(address: bigint, bytes: number, access: number): number {
    this.state.set32(LOCAL.ACCESS_BYTES, bytes);
    const found = this.exports.translate(address, access) >>> 0;
    if (found === 0) throw recordedFault(this.state);
    if (this.state.get32(LOCAL.LOG_ACCESSES) && !(access & ACCESS.SUPERVISOR))
      logAccess(this.state, address, bytes, (access & ACCESS.WRITE) !== 0);
    return found;
  }

  #written(at: number, bytes: number): void {
    const meta = this.#view.getUint32(PAGE_META.BASE + ((at - RAM_BASE) >>> 12) * 4, true);
    if (meta & PAGE_META.CODE) this.exports.invalidate(at, bytes);
  }

  read(address: bigint, bytes: number, supervisor = false): bigint {
    if (Number(address & 0xfffn) + bytes > 4096) return fromBytes(this.#readBytes(address, bytes, supervisor));
    const at = this.#translate(address, bytes, supervisor ? ACCESS.READ | ACCESS.SUPERVISOR : ACCESS.READ);
    switch (bytes) {
      case 1:
        return BigInt(this.#view.getUint8(at));
      case 2:
        return BigInt(this.#view.getUint16(at, true));
      case 4:
        return BigInt(this.#view.getUint32(at, true));
      default:
        return this.#view.getBigUint64(at, true);
    }
  }

  write(address: bigint, bytes: number, value: bigint, supervisor = false): void {
    if (Number(address & 0xfffn) + bytes > 4096) {
      this.#writeBytes(address, toBytes(value, bytes), supervisor);
      return;
    }
    const at = this.#translate(address, bytes, supervisor ? ACCESS.WRITE | ACCESS.SUPERVISOR : ACCESS.WRITE);
    switch (bytes) {
      case 1:
        this.#view.setUint8(at, Number(value & 0xffn));
        break;
      case 2:
        this.#view.setUint16(at, Number(value & 0xffffn), true);
        break;
      case 4:
        this.#view.setUint32(at, Number(value & 0xffff_ffffn), true);
        break;
      default:
        this.#view.setBigUint64(at, BigInt.asUintN(64, value), true);
    }
    this.#written(at, bytes);
  }

  readWords(address: bigint, into: BigUint64Array, count: number, supervisor = false): void {
    if (Number(address & 0xfffn) + count * 8 > 4096) {
      for (let n = 0; n < count; n++) into[n] = this.read(address + BigInt(n * 8), 8, supervisor);
      return;
    }
    const at = this.#translate(address, count * 8, supervisor ? ACCESS.READ | ACCESS.SUPERVISOR : ACCESS.READ);
    for (let n = 0; n < count; n++) into[n] = this.#view.getBigUint64(at + n * 8, true);
  }

  writeWords(address: bigint, words: BigUint64Array, count: number, supervisor = false): void {
    if (Number(address & 0xfffn) + count * 8 > 4096) {
      this.probeWrite(address, count * 8, supervisor);
      for (let n = 0; n < count; n++) this.write(address + BigInt(n * 8), 8, words[n] as bigint, supervisor);
      return;
    }
    const at = this.#translate(address, count * 8, supervisor ? ACCESS.WRITE | ACCESS.SUPERVISOR : ACCESS.WRITE);
    for (let n = 0; n < count; n++) this.#view.setBigUint64(at + n * 8, words[n] as bigint, true);
    this.#written(at, count * 8);
  }

  readBytes(address: bigint, length: number): Uint8Array {
    return this.#readBytes(address, length, false);
  }
  #readBytes(address: bigint, length: number, supervisor: boolean): Uint8Array {
    const result = new Uint8Array(length);
    let done = 0;
    for (const part of pages(address, length)) {
      const at = this.#translate(part.address, part.length, supervisor ? ACCESS.READ | ACCESS.SUPERVISOR : ACCESS.READ);
      result.set(this.#bytes.subarray(at, at + part.length), done);
      done += part.length;
    }
    return result;
  }

  writeBytes(address: bigint, bytes: Uint8Array): void {
    this.#writeBytes(address, bytes, false);
  }
  #writeBytes(address: bigint, bytes: Uint8Array, supervisor: boolean): void {
    this.probeWrite(address, bytes.length, supervisor);
    let done = 0;
    for (const part of pages(address, bytes.length)) {
      const at = this.#translate(
        part.address,
        part.length,
        supervisor ? ACCESS.WRITE | ACCESS.SUPERVISOR : ACCESS.WRITE,
      );
      this.#bytes.set(bytes.subarray(done, done + part.length), at);
      this.#written(at, part.length);
      done += part.length;
    }
  }

  probeWrite(address: bigint, length: number, supervisor = false): void {
    for (const part of pages(address, length)) {
      this.#translate(part.address, part.length, supervisor ? ACCESS.WRITE | ACCESS.SUPERVISOR : ACCESS.WRITE);
    }
  }
}

/** Cuts a range at page boundaries. */
function* pages(address: bigint, length: number): Generator<{ address: bigint; length: number }> {
  let at = BigInt.asUintN(64, address);
  let rest = length;
  while (rest > 0) {
    const here = Math.min(rest, Number(PAGE - (at & (PAGE - 1n))));
    yield { address: at, length: here };
    at = BigInt.asUintN(64, at + BigInt(here));
    rest -= here;
  }
}

function fromBytes(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let n = bytes.length - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[n] as number);
  return value;
}

function toBytes(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn));
}
