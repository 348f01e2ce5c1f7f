import { type Decoded, decode } from "../../src/cpu/decoder/decode.js";
import type { ParsedRow } from "../../src/cpu/isa/variants.js";
import { ARENA, CASE, CODE_FILLER, FX } from "./arena.js";
import { type Encoded, encodeAnything, encodeRow } from "./encode.js";
import { Random } from "./random.js";
import { fillKind, integer, type Kind, writeExtended } from "./values.js";

/** What is known of a case beside its record. */
export interface Generated {
  readonly seed: number;
  readonly index: number;
  readonly mode: 64 | 32;
  /** The row it was made from; null: any bytes. */
  readonly row: ParsedRow | null;
  /** What our decoder makes of it. */
  readonly decoded: Decoded | string;
  readonly unusual: boolean;
  /** Linear address of the memory operand that was aimed at, 0 if none. */
  readonly target: bigint;
}

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RSP = 4;
const RBP = 5;
const RSI = 6;
const RDI = 7;
const TF = 0x100n;
const ARITHMETIC = [0x1n, 0x4n, 0x10n, 0x40n, 0x80n, 0x800n];
/** Share of cases with bytes that no row stands behind. */
const ANYTHING = 0.03;

const mask = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

/** Makes the cases of one mode from the rows of the instruction table. */
export class Generator {
  readonly #scratch = new Uint8Array(48);

  constructor(
    private readonly rows: readonly ParsedRow[],
    private readonly seed: number,
    private readonly mode: 64 | 32,
  ) {}

  /** Writes the record of a case and says what it is. */
  write(index: number, record: Uint8Array): Generated {
    const random = new Random(this.seed, index);
    const view = new DataView(record.buffer, record.byteOffset, CASE.SIZE);
    record.fill(0, 0, CASE.SIZE);
    const anything = random.chance(ANYTHING);
    const row = anything ? null : (this.rows[index % this.rows.length] as ParsedRow);
    const encoded = row ? encodeRow(row, random, this.mode) : encodeAnything(random, this.mode);
    const { bytes } = encoded;
    // Whether #UD or a fault of the fetch behind it comes first is the implementation's: no such doubt where #UD may be.
    const doubtful = anything || encoded.unusual;
    const codeOffset = doubtful ? random.below(ARENA.CODE_SIZE - 32) : this.#placeCode(random, bytes.length);
    const gprs = Array.from({ length: 16 }, () => integer(random));
    gprs[RSP] = this.#stack(random);
    const decoded = this.#decode(bytes);
    // What follows an instruction is INT3.
    if (anything && typeof decoded !== "string") bytes.length = decoded.length;
    const kind = this.#kind(random, row);
    let target = 0n;
    if (typeof decoded !== "string") {
      this.#implicit(random, decoded, gprs);
      if (decoded.memory && !decoded.row.source.repeat) {
        target = this.#aim(random, decoded, encoded, gprs, codeOffset, kind);
        this.#patch(random, view, target, kind, decoded);
        this.#afterPatch(random, view, decoded, gprs, target);
      } else if (decoded.mnemonic === "ret") this.#patchReturn(random, view, gprs);
      else if (random.chance(0.5)) this.#patch(random, view, gprs[RSI] as bigint, kind, decoded);
    }
    this.#registersDone(random, decoded, gprs);

    record.set(bytes, CASE.CODE);
    view.setUint16(CASE.CODE_OFFSET, codeOffset, true);
    record[CASE.CODE_LENGTH] = Math.min(bytes.length, ARENA.CODE_SIZE - codeOffset);
    record[CASE.COMPATIBILITY] = this.mode === 64 ? 0 : 1;
    const repeating = typeof decoded !== "string" && decoded.row.source.repeat !== undefined && decoded.repeat !== 0;
    record[CASE.STEP] = repeating ? 0 : 1;
    gprs.forEach((value, n) => {
      const legacy = n < 8 ? value & 0xffff_ffffn : 0n;
      view.setBigUint64(CASE.GPR + n * 8, this.mode === 64 ? value : legacy, true);
    });
    let flags = 0x202n | (repeating ? 0n : TF);
    for (const flag of ARITHMETIC) if (random.chance(0.5)) flags |= flag;
    if (random.chance(0.15)) flags |= 0x400n;
    view.setBigUint64(CASE.RFLAGS, flags, true);
    this.#vectorState(random, view, record, kind);
    return { seed: this.seed, index, mode: this.mode, row, decoded, unusual: encoded.unusual, target };
  }

  #decode(bytes: readonly number[]): Decoded | string {
    this.#scratch.fill(CODE_FILLER);
    this.#scratch.set(bytes);
    return decode(this.#scratch, 0, this.#scratch.length, this.mode);
  }

  /** Anywhere, at the end of the first page, over it, at the end of the code, beyond it. */
  #placeCode(random: Random, length: number): number {
    const choice = random.below(100);
    if (choice < 6) return 0x1000 - length;
    if (choice < 12) return 0x1000 - 1 - random.below(length);
    if (choice < 20) return ARENA.CODE_SIZE - length;
    if (choice < 23) return ARENA.CODE_SIZE - 1 - random.below(length);
    return random.below(ARENA.CODE_SIZE - 32);
  }

  #stack(random: Random): bigint {
    const choice = random.below(100);
    if (choice < 80)
      return BigInt(
        ARENA.DATA + 0x100 + random.below(0x1e0) * 16 + (random.chance(0.2) ? random.below(16) : 8 * random.below(2)),
      );
    if (choice < 90) return BigInt(ARENA.DATA + 0x1000 - 8 + random.below(17));
    if (choice < 94) return BigInt(ARENA.DATA + random.below(16));
    if (choice < 97) return BigInt(ARENA.DATA + ARENA.DATA_SIZE - 8 + random.below(16));
    return BigInt(0x1000_0000 + random.below(0x1000_0000));
  }

  #kind(random: Random, row: ParsedRow | null): Kind {
    const name = row?.source.mnemonic ?? "";
    const choice = random.below(100);
    if (name.startsWith("f") && choice < 60) return "extended";
    if (name.startsWith("fb")) return "decimal";
    if (choice < 75 && /(ps|ss)$|ps2|ss2/.test(name)) return "single";
    if (choice < 75 && /(pd|sd)$|pd2|sd2/.test(name)) return "double";
    return random.pick(["bytes", "integers", "integers", "single", "double"]);
  }

  /** An address for an operand of so many bytes. */
  #target(random: Random): bigint {
    const choice = random.below(1000);
    const { DATA, DATA_SIZE, READ_ONLY, CODE } = ARENA;
    if (choice < 620) return BigInt(DATA + 16 * random.below(DATA_SIZE / 16));
    if (choice < 760) return BigInt(DATA + random.below(DATA_SIZE));
    if (choice < 830) return BigInt(DATA + 0x1000 - random.below(24));
    if (choice < 860) return BigInt(DATA - random.below(24));
    if (choice < 890) return BigInt(READ_ONLY - random.below(24));
    if (choice < 920) return BigInt(READ_ONLY + 16 * random.below(ARENA.READ_ONLY_SIZE / 16));
    if (choice < 935) return BigInt(READ_ONLY + ARENA.READ_ONLY_SIZE - random.below(24));
    if (choice < 950) return BigInt(CODE + random.below(ARENA.CODE_SIZE));
    if (choice < 970) return BigInt(0x1000_0000 + random.below(0x1000_0000));
    if (choice < 980) return BigInt(random.below(0x1000));
    if (choice < 990) return 0x8000_0000_0000n - BigInt(random.below(2) * random.below(8)) + BigInt(random.below(16));
    return wrap((random.u64() | (1n << 62n)) & ~(1n << 63n));
  }

  /** Values of registers that the instruction uses without naming them in ModR/M. */
  #implicit(random: Random, decoded: Decoded, gprs: bigint[]): void {
    const { mnemonic } = decoded;
    const upper = (value: bigint): bigint => (random.chance(0.3) ? value | (random.u64() << 32n) : value);
    if (decoded.row.source.repeat || mnemonic.startsWith("maskmov")) {
      gprs[RSI] = this.#target(random);
      gprs[RDI] = random.chance(0.3)
        ? wrap((gprs[RSI] as bigint) + BigInt(random.below(48) - 24))
        : this.#target(random);
      const count = BigInt(random.chance(0.92) ? random.below(40) : random.chance(0.8) ? random.below(0x900) : 0x4000);
      gprs[RCX] =
        decoded.addressSize === 4 ? wrap(upper(count)) : decoded.addressSize === 2 ? count | 0xabcd_0000n : count;
    } else if (decoded.row.operands.some(({ fixed }) => fixed === "CL")) {
      if (random.chance(0.6))
        gprs[RCX] = ((gprs[RCX] as bigint) & ~0xffn) | BigInt(random.below(random.chance(0.5) ? 34 : 256));
    } else if (mnemonic.startsWith("loop") || mnemonic === "jrcxz") {
      if (random.chance(0.7)) gprs[RCX] = wrap(upper(BigInt(random.below(3))));
    } else if (mnemonic === "div" || mnemonic === "idiv") {
      const bits = decoded.variantSize * 8;
      const dividend = gprs[RAX] as bigint;
      const high = random.chance(0.5)
        ? ((dividend >> BigInt(bits - 1)) & 1n) !== 0n && mnemonic === "idiv"
          ? -1n
          : 0n
        : BigInt(random.below(200));
      if (random.chance(0.75)) {
        if (bits === 8) gprs[RAX] = (dividend & ~0xff00n) | (wrap(high << 8n) & 0xff00n);
        else gprs[RDX] = ((gprs[RDX] as bigint) & ~mask(bits)) | (wrap(high) & mask(bits));
      }
    } else if (mnemonic.startsWith("pcmpestr")) {
      for (const register of [RAX, RDX])
        if (random.chance(0.8)) gprs[register] = wrap(upper(wrap(BigInt(random.below(40) - 20)) & 0xffff_ffffn));
    } else if (mnemonic === "leave" || (mnemonic === "enter" && random.chance(0.8))) gprs[RBP] = this.#stack(random);
    else if (/^b(t|ts|tr|tc)$/.test(mnemonic) && decoded.memory && random.chance(0.85)) {
      gprs[decoded.reg] = wrap(BigInt(random.below(0x2000) - 0x1000));
    } else if (mnemonic === "cmpxchg" && !decoded.memory && random.chance(0.5)) gprs[RAX] = gprs[decoded.rm] as bigint;
    if (!decoded.memory && (mnemonic === "call" || mnemonic === "jmp") && random.chance(0.8)) {
      if (decoded.rm !== RSP) gprs[decoded.rm] = this.#codeAddress(random);
    }
  }

  #codeAddress(random: Random): bigint {
    if (random.chance(0.7)) return BigInt(ARENA.CODE + random.below(ARENA.CODE_SIZE));
    return random.u64() >> 17n;
  }

  /** Sets registers or displacement so that the memory operand lies at an address of our choice. */
  #aim(random: Random, decoded: Decoded, encoded: Encoded, gprs: bigint[], codeOffset: number, kind: Kind): bigint {
    const { memory } = decoded;
    if (!memory) return 0n;
    void kind;
    const target = this.#target(random);
    const segmentBase =
      this.mode === 64 && memory.segment === 4
        ? BigInt(ARENA.FS_BASE)
        : this.mode === 64 && memory.segment === 5
          ? BigInt(ARENA.GS_BASE)
          : 0n;
    const { base, index, scale } = memory;
    const bits = decoded.addressSize * 8;
    const narrow = (value: bigint): bigint => BigInt.asUintN(bits, value);
    const garbage = (value: bigint): bigint =>
      bits < 64 && this.mode === 64 ? wrap(narrow(value) | (random.u64() << 32n)) : narrow(value);
    let rest = target - segmentBase - memory.displacement;
    if (decoded.mnemonic === "xlat") rest -= (gprs[RAX] as bigint) & 0xffn;
    if (base < 0 && index < 0) {
      this.#displace(encoded, target - segmentBase);
      return target;
    }
    if (base === 16) {
      const next = BigInt(ARENA.CODE + codeOffset + decoded.length);
      this.#displace(encoded, target - segmentBase - next);
      return target;
    }
    const factor = 1n << BigInt(scale);
    if (index >= 0 && base >= 0 && index !== base) {
      if (random.chance(0.5)) gprs[index] = wrap(BigInt(random.below(128) - 64));
      gprs[base] = garbage(rest - (gprs[index] as bigint) * factor);
    } else if (index >= 0) {
      const divisor = base === index ? factor + 1n : factor;
      gprs[index] = garbage(rest / divisor);
      const left = rest % divisor;
      if (left !== 0n && encoded.displacementBytes > 0) this.#displace(encoded, memory.displacement + left);
      else return target - left;
    } else gprs[base] = garbage(rest);
    return target;
  }

  #displace(encoded: Encoded, value: bigint): void {
    for (let n = 0; n < encoded.displacementBytes; n++) {
      encoded.bytes[encoded.displacementAt + n] = Number((value >> BigInt(8 * n)) & 0xffn);
    }
  }

  /** New contents of memory from an address on. */
  #patch(random: Random, view: DataView, target: bigint, kind: Kind, decoded: Decoded): void {
    const offset = Number(target) - ARENA.DATA;
    if (!(offset >= 0 && offset < ARENA.DATA_SIZE)) return;
    const bytes = Math.min(kind === "extended" ? 10 : 16, ARENA.DATA_SIZE - offset);
    view.setUint16(CASE.PATCH_OFFSET, offset, true);
    view.setUint16(CASE.PATCH_LENGTH, bytes, true);
    fillKind(random, kind, view, CASE.PATCH, bytes);
    if (decoded.mnemonic === "ldmxcsr" && random.chance(0.8) && bytes >= 4)
      view.setUint32(CASE.PATCH, random.u32() & 0xffff, true);
    if (decoded.mnemonic === "fldcw" && bytes >= 2) view.setUint16(CASE.PATCH, this.#controlWord(random), true);
    if ((decoded.mnemonic === "jmp" || decoded.mnemonic === "call") && bytes >= 8 && random.chance(0.8)) {
      view.setBigUint64(CASE.PATCH, this.#codeAddress(random), true);
    }
  }

  #afterPatch(random: Random, view: DataView, decoded: Decoded, gprs: bigint[], target: bigint): void {
    const { base, index } = decoded.memory ?? { base: -1, index: -1 };
    const free = (register: number): boolean => register !== base && register !== index;
    if (view.getUint16(CASE.PATCH_LENGTH, true) < 16 || target === 0n || random.chance(0.4)) return;
    if (decoded.mnemonic === "cmpxchg" && free(RAX)) gprs[RAX] = view.getBigUint64(CASE.PATCH, true);
    if (decoded.mnemonic === "cmpxchg8b" && free(RAX) && free(RDX)) {
      const wide = (decoded.rex & 8) !== 0;
      gprs[RAX] = wide ? view.getBigUint64(CASE.PATCH, true) : BigInt(view.getUint32(CASE.PATCH, true));
      gprs[RDX] = wide ? view.getBigUint64(CASE.PATCH + 8, true) : BigInt(view.getUint32(CASE.PATCH + 4, true));
    }
  }

  #patchReturn(random: Random, view: DataView, gprs: readonly bigint[]): void {
    const offset = Number(gprs[RSP]) - ARENA.DATA;
    if (!(offset >= 0 && offset + 8 <= ARENA.DATA_SIZE) || random.chance(0.1)) return;
    view.setUint16(CASE.PATCH_OFFSET, offset, true);
    view.setUint16(CASE.PATCH_LENGTH, 8, true);
    view.setBigUint64(CASE.PATCH, this.#codeAddress(random), true);
  }

  /** Registers that matter after the memory operand has been aimed. */
  #registersDone(random: Random, decoded: Decoded | string, gprs: bigint[]): void {
    // The real CPU's way back from the kernel does not take a stack pointer that is not canonical.
    const stack = gprs[RSP] as bigint;
    if (BigInt.asUintN(64, BigInt.asIntN(48, stack)) !== stack) gprs[RSP] = stack & 0xffff_ffffn;
    if (typeof decoded === "string" || this.mode === 64) return;
    if (decoded.addressSize === 2 && random.chance(0.5))
      for (const n of [RBX, RBP, RSI, RDI]) gprs[n] = (gprs[n] as bigint) & 0xffffn;
  }

  #controlWord(random: Random): number {
    const precision = random.pick([0, 2, 3, 3]) << 8;
    const masks = random.chance(0.8) ? 0x3f : random.below(64);
    return precision | (random.below(4) << 10) | masks | (random.chance(0.1) ? 0x1000 : 0);
  }

  #vectorState(random: Random, view: DataView, record: Uint8Array, kind: Kind): void {
    const fx = CASE.FX;
    const control = this.#controlWord(random) | 0x40;
    view.setUint16(fx + FX.FCW, control, true);
    let status = random.chance(0.3) ? random.u32() & 0x7f3f : random.below(8) << 11;
    if (random.chance(0.8)) status &= ~(~control & 0x3f);
    if (status & ~control & 0x3f) status |= 0x8080;
    // SF is meaningful beside IE only, and set alone by nothing.
    view.setUint16(fx + FX.FSW, status & 0xffbf, true);
    record[fx + FX.FTW] = random.chance(0.6) ? 0xff : random.below(256);
    for (let n = 0; n < 8; n++) {
      if (kind === "bytes" || kind === "integers") {
        if (random.chance(0.5)) fillKind(random, "integers", view, fx + FX.ST + n * 16, 8);
        else fillKind(random, "bytes", view, fx + FX.ST + n * 16, 8);
        view.setUint16(fx + FX.ST + n * 16 + 8, random.chance(0.5) ? 0xffff : 0x3fff + random.below(64), true);
      } else writeExtended(random, view, fx + FX.ST + n * 16);
    }
    let mxcsr = 0x1f80;
    if (random.chance(0.5)) mxcsr = (random.u32() & 0xffff) | (random.chance(0.7) ? 0x1f80 : 0);
    view.setUint32(fx + FX.MXCSR, mxcsr, true);
    const vector: Kind = kind === "extended" || kind === "decimal" ? "double" : kind;
    for (let n = 0; n < 16; n++) fillKind(random, vector, view, fx + FX.XMM + n * 16, 16);
  }
}
