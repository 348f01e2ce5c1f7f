import { PAGE_SIZE } from "../../arch/page.js";
import { handlerTable, PSEUDO_HANDLER, variantKey } from "../interpreter/handlers.js";
import type { Addressing } from "../isa/variants.js";
import {
  ADDRESSING,
  CODE_TABLE,
  INDEX_ARENA,
  LOCAL,
  PAGE_META,
  RAM_BASE,
  RECORD,
  RECORD_ARENA,
  RECORD_SIZE,
  REG,
  SEG,
  SEG_SIZE,
} from "../layout.js";
import { type CodeMode, type Decoded, decode } from "./decode.js";

const VECTOR_UD = 6;
/** RAISE with error code 0 and vector #GP. */
const RAISE_GP = 13;
/** RAISE without error code: negative. */
const RAISE_UD = VECTOR_UD - 0x100;

/** The first index (which stays empty) and the first records belong to the instruction that is decoded for one execution. */
const FIRST_INDEX = INDEX_ARENA.BASE + INDEX_ARENA.SIZE;
const ONCE_RECORDS = 4;
const FIRST_RECORD = RECORD_ARENA.BASE + ONCE_RECORDS * RECORD_SIZE;

/** Where the second page of an instruction comes from: WebAssembly address of the page, 0 if it cannot be fetched. */
export type NextPage = () => number;

/** The decoded records of every page of code, in the machine's memory. */
export class CodeCache {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Ends of the arenas: when one is reached, everything is forgotten. */
  readonly limits = { index: INDEX_ARENA.END as number, record: RECORD_ARENA.END as number };
  #nextIndex: number = FIRST_INDEX;
  #nextRecord: number = FIRST_RECORD;
  /** Behind these addresses the arenas have never been used and are zero. */
  #indexesUsed: number = INDEX_ARENA.BASE;
  #recordsUsed: number = RECORD_ARENA.BASE;
  /** Page numbers with an index, per table. */
  readonly #pages: number[] = [];
  /** System instructions by record. */
  readonly #system = new Map<number, Decoded>();

  /** @param onCodePage called when a page becomes code: writes to it must take the slow path from now on. */
  constructor(
    memory: WebAssembly.Memory,
    private readonly onCodePage: () => void,
    private readonly onFlush: () => void,
  ) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
  }

  /** The system instruction of a record. */
  systemInstruction(record: number): Decoded {
    return this.#system.get(record) as Decoded;
  }

  /** Number of pages with decoded code. */
  get pages(): number {
    return this.#pages.length;
  }

  /** Forgets everything. Must not be called while the executor runs. */
  flush(): void {
    for (const page of this.#pages) {
      for (const table of [CODE_TABLE.LONG, CODE_TABLE.LEGACY]) this.#view.setUint32(table + page * 4, 0, true);
      const meta = PAGE_META.BASE + page * 4;
      this.#view.setUint32(meta, this.#view.getUint32(meta, true) & ~PAGE_META.CODE, true);
    }
    this.#pages.length = 0;
    this.#system.clear();
    this.#nextIndex = FIRST_INDEX;
    this.#nextRecord = FIRST_RECORD;
    this.onFlush();
  }

  /** Index of a page, made if it is not there. */
  #index(table: number, page: number): number {
    const slot = table + page * 4;
    const found = this.#view.getUint32(slot, true);
    if (found) return found;
    const index = this.#nextIndex;
    this.#nextIndex += INDEX_ARENA.SIZE;
    if (index < this.#indexesUsed) this.#bytes.fill(0, index, index + INDEX_ARENA.SIZE);
    else this.#indexesUsed = this.#nextIndex;
    this.#view.setUint32(slot, index, true);
    this.#pages.push(page);
    const meta = PAGE_META.BASE + page * 4;
    const flags = this.#view.getUint32(meta, true);
    if (!(flags & PAGE_META.CODE)) {
      this.#view.setUint32(meta, flags | PAGE_META.CODE, true);
      this.onCodePage();
    }
    return index;
  }

  #newRecord(): number {
    const record = this.#nextRecord;
    this.#nextRecord += RECORD_SIZE;
    if (record >= this.#recordsUsed) this.#recordsUsed = this.#nextRecord;
    else for (let at = record; at < this.#nextRecord; at += 4) this.#view.setUint32(at, 0, true);
    return record;
  }

  /**
   * Decodes a run of instructions from a WebAssembly address of host memory on, in straight line until a branch, the end
   * of the page or something that is already decoded.
   * @param breakOffset offset in the page at which the executor is to stop, -1 for none.
   * @returns false if the first instruction crosses into a page that cannot be fetched (the fault has been recorded).
   */
  decodeRun(address: number, mode: CodeMode, nextPage: NextPage, breakOffset: number): boolean {
    // Room for the longest run and two pages, so that nothing is flushed under way.
    if (
      this.#nextRecord + (PAGE_SIZE + 8) * RECORD_SIZE > this.limits.record ||
      this.#nextIndex + 2 * INDEX_ARENA.SIZE > this.limits.index
    )
      this.flush();
    const table = mode === 64 ? CODE_TABLE.LONG : CODE_TABLE.LEGACY;
    const pageAddress = address & -PAGE_SIZE;
    const base = pageAddress >>> 0;
    const page = (base - RAM_BASE) >>> 12;
    const index = this.#index(table, page);
    const first = (address >>> 0) - base;
    let offset = first;
    for (;;) {
      if (offset >= PAGE_SIZE) {
        this.#continueAt(offset);
        return true;
      }
      const known = this.#view.getUint32(index + offset * 4, true);
      if (known && offset !== first && this.#view.getUint16(known, true) !== PSEUDO_HANDLER.INVALID) {
        const link = this.#newRecord();
        this.#view.setUint16(link, PSEUDO_HANDLER.GOTO, true);
        this.#view.setUint16(link + RECORD.OFFSET, offset, true);
        this.#view.setUint32(link + RECORD.TARGET, known, true);
        return true;
      }
      const decoded = decode(this.#bytes, base + offset, base + PAGE_SIZE, mode);
      if (decoded === "truncated") {
        if (offset !== first) {
          this.#continueAt(offset);
          return true;
        }
        return this.#crossing(table, index, base, offset, mode, nextPage);
      }
      let entry = 0;
      if (offset === breakOffset) {
        entry = this.#newRecord();
        this.#view.setUint16(entry, PSEUDO_HANDLER.BREAK, true);
        this.#view.setUint16(entry + RECORD.OFFSET, offset, true);
        this.#view.setUint8(entry + RECORD.LENGTH, typeof decoded === "string" ? 15 : decoded.length);
      }
      const record = this.#newRecord();
      this.#view.setUint32(index + offset * 4, entry || record, true);
      if (typeof decoded === "string") {
        this.#raise(record, offset, decoded === "undefined" ? RAISE_UD : RAISE_GP);
        return true;
      }
      this.#write(record, decoded, offset, mode);
      offset += decoded.length;
      if (decoded.row.source.ends) return true;
    }
  }

  /**
   * Makes the record of one instruction that is to be executed once, and nothing else of it be kept.
   * @returns the record, and an offset index with nothing in it.
   */
  decodeOnce(
    decoded: Decoded | "undefined" | "too-long",
    offset: number,
    mode: CodeMode,
  ): { record: number; index: number } {
    const next = this.#nextRecord;
    this.#nextRecord = RECORD_ARENA.BASE;
    const record = this.#newRecord();
    if (typeof decoded === "string") this.#raise(record, offset, decoded === "undefined" ? RAISE_UD : RAISE_GP);
    else {
      this.#write(record, decoded, offset, mode);
      this.#continueAt(offset + decoded.length);
    }
    this.#nextRecord = next;
    return { record, index: INDEX_ARENA.BASE };
  }

  #continueAt(offset: number): void {
    const record = this.#newRecord();
    this.#view.setUint16(record, PSEUDO_HANDLER.CONTINUE, true);
    this.#view.setUint16(record + RECORD.OFFSET, offset, true);
  }

  #raise(record: number, offset: number, what: number): void {
    this.#view.setUint16(record, PSEUDO_HANDLER.RAISE, true);
    this.#view.setUint16(record + RECORD.OFFSET, offset, true);
    this.#view.setUint8(record + RECORD.LENGTH, 15);
    this.#view.setInt32(record + RECORD.IMMEDIATE, what, true);
  }

  /** An instruction with bytes in two pages: a check of the second page's translation stands before its record. */
  #crossing(table: number, index: number, base: number, offset: number, mode: CodeMode, nextPage: NextPage): boolean {
    const second = nextPage();
    if (second === 0) return false;
    const code = new Uint8Array(15 + PAGE_SIZE - offset);
    code.set(this.#bytes.subarray(base + offset, base + PAGE_SIZE));
    code.set(this.#bytes.subarray(second, second + 15), PAGE_SIZE - offset);
    const decoded = decode(code, 0, code.length, mode);
    const check = this.#newRecord();
    const record = this.#newRecord();
    this.#view.setUint16(check, PSEUDO_HANDLER.CROSSING, true);
    this.#view.setUint16(check + RECORD.OFFSET, offset, true);
    this.#view.setUint8(check + RECORD.LENGTH, 15);
    this.#view.setBigInt64(check + RECORD.IMMEDIATE, BigInt(second), true);
    this.#view.setUint32(check + RECORD.TARGET, record, true);
    if (typeof decoded === "string") this.#raise(record, offset, decoded === "undefined" ? RAISE_UD : RAISE_GP);
    else {
      this.#write(record, decoded, offset, mode);
      this.#continueAt(offset + decoded.length);
    }
    const secondIndex = this.#index(table, (second - RAM_BASE) >>> 12);
    const before = this.#view.getUint32(secondIndex + INDEX_ARENA.CROSSING, true);
    if (before && this.#view.getUint16(before, true) !== PSEUDO_HANDLER.INVALID) {
      // A page remembers one crossing instruction; another one before it is decoded again when it comes up.
      this.#view.setUint16(before, PSEUDO_HANDLER.INVALID, true);
    }
    this.#view.setUint32(secondIndex + INDEX_ARENA.CROSSING, check, true);
    this.#view.setUint32(index + offset * 4, check, true);
    return true;
  }

  /** Writes the record of an instruction. */
  #write(record: number, decoded: Decoded, offset: number, mode: CodeMode): void {
    const view = this.#view;
    const { row } = decoded;
    view.setUint8(record + RECORD.LENGTH, decoded.length);
    view.setUint16(record + RECORD.OFFSET, offset, true);
    if (decoded.system !== "") {
      view.setUint16(record, PSEUDO_HANDLER.SYSTEM, true);
      this.#system.set(record, decoded);
      return;
    }
    if (row.source.nothing) {
      view.setUint16(record, PSEUDO_HANDLER.NOTHING, true);
      return;
    }
    const long = mode === 64;
    const legacy = (row.source.stack ?? false) && !long;
    const addressing = this.#memoryOperand(record, decoded, offset, long);
    const repeat =
      !row.source.repeat || decoded.repeat === 0
        ? ""
        : row.source.repeat === "repe" && decoded.repeat === 0xf2
          ? "repne"
          : "rep";
    const bySize = row.source.repeat !== undefined || row.source.byAddressSize;
    const numbers = handlerTable().numbers.get(row) as ReadonlyMap<number, number>;
    const key = (how: Addressing): number =>
      variantKey(decoded.variantSize, how, repeat, bySize ? decoded.addressSize : 0, legacy);
    const handler = numbers.get(key(addressing)) ?? numbers.get(key("any"));
    if (handler === undefined) throw new Error(`no handler for ${decoded.mnemonic} ${key(addressing)}`);
    view.setUint16(record, handler, true);
    let slot: number = RECORD.REG0;
    row.operands.forEach((operand, n) => {
      const register = decoded.registers[n] as number;
      if (register < 0) return;
      view.setUint16(record + slot, registerAddress(operand.kind, operand.size, register, decoded.rex), true);
      slot = RECORD.REG1;
    });
    let immediate = decoded.immediate;
    if (row.operands.some(({ kind }) => kind === "J")) {
      immediate += BigInt(offset + decoded.length);
      if (!long) this.#addFlag(record, decoded.variantSize === 2 ? ADDRESSING.BITS16 : ADDRESSING.BITS32);
    }
    view.setBigInt64(record + RECORD.IMMEDIATE, immediate, true);
  }

  #addFlag(record: number, flag: number): void {
    this.#view.setUint8(record + RECORD.SCALE, this.#view.getUint8(record + RECORD.SCALE) | flag);
  }

  /** Fills in base, index, scale, displacement and segment; says which form of addressing they are. */
  #memoryOperand(record: number, decoded: Decoded, offset: number, long: boolean): Addressing {
    const view = this.#view;
    const { memory } = decoded;
    if (!memory) return "none";
    let displacement = Number(BigInt.asIntN(32, memory.displacement));
    if (decoded.ripRelative) displacement += offset + decoded.length;
    const isPop = decoded.row.source.mnemonic === "pop";
    if (isPop && memory.base === 4) displacement += decoded.variantSize;
    view.setUint16(
      record + RECORD.BASE,
      memory.base < 0 ? LOCAL.ZERO : memory.base === 16 ? LOCAL.PAGE_BASE : REG.GPR + memory.base * 8,
      true,
    );
    view.setUint16(record + RECORD.INDEX, memory.index < 0 ? LOCAL.ZERO : REG.GPR + memory.index * 8, true);
    view.setInt32(record + RECORD.DISPLACEMENT, displacement, true);
    const flat = long && memory.segment < 4;
    view.setUint16(
      record + RECORD.SEGMENT,
      flat ? LOCAL.ZERO : REG.SEGMENTS + memory.segment * SEG_SIZE + SEG.BASE,
      true,
    );
    let scale = memory.scale;
    if (decoded.addressSize === 4) scale |= ADDRESSING.BITS32;
    if (decoded.addressSize === 2) scale |= ADDRESSING.BITS16;
    if (!long) scale |= ADDRESSING.LEGACY;
    view.setUint8(record + RECORD.SCALE, scale);
    if (decoded.row.memoryOperand < 0) return "none";
    if (!long || decoded.addressSize !== 8) return "any";
    return flat && memory.index < 0 ? "base" : "index";
  }
}

/** Address of a register operand in the register block. */
function registerAddress(kind: string, size: string, register: number, rex: number): number {
  if (kind === "V" || kind === "W" || kind === "U") return REG.XMM + register * 16;
  if (kind === "P" || kind === "Q" || kind === "N") return REG.FPR + (register & 7) * 16;
  // Not an address: the distance from ST(0) in the register file.
  if (kind === "T") return register * 16;
  if (kind === "S") return REG.SEGMENTS + register * SEG_SIZE + SEG.SELECTOR;
  if (size === "b" && rex === 0 && register >= 4 && register < 8) return REG.GPR + (register - 4) * 8 + 1;
  return REG.GPR + register * 8;
}
