import { CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register } from "iced-x86";
import { type Decoded, decode } from "../../src/cpu/decoder/decode.js";
import { ADVERTISED } from "../native-oracle/advertised.js";
import { DIFFERENCES, type Opinions, sameMnemonic } from "./tables.js";

/** Number of a register in the encoding, by its name in iced: RAX, EAX, AX, AL, AH, SPL, XMM3, MM3, ST3, ES and so on. */
const REGISTER_NUMBERS = new Map<number, number>();
for (const [name, value] of Object.entries(Register)) {
  if (typeof value !== "number") continue;
  const number = numberOf(name.toLowerCase());
  if (number !== undefined) REGISTER_NUMBERS.set(value, number);
}

function numberOf(name: string): number | undefined {
  const classic = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
  const bytes = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
  if (bytes.includes(name)) return bytes.indexOf(name);
  if (/^(sp|bp|si|di)l$/.test(name)) return classic.indexOf(name.slice(0, 2));
  const plain = name.replace(/^[er](?=[a-d]x$|[sb]p$|[sd]i$)/, "");
  if (classic.includes(plain)) return classic.indexOf(plain);
  const segments = ["es", "cs", "ss", "ds", "fs", "gs"];
  if (segments.includes(name)) return segments.indexOf(name);
  const numbered = /^(?:r|xmm|mm|st|cr|dr)(\d+)[lwd]?$/.exec(name);
  return numbered ? Number(numbered[1]) : undefined;
}

const IMMEDIATE_BITS: Readonly<Record<number, number>> = {
  [OpKind.Immediate8]: 8,
  [OpKind.Immediate16]: 16,
  [OpKind.Immediate32]: 32,
  [OpKind.Immediate64]: 64,
  [OpKind.Immediate8to16]: 16,
  [OpKind.Immediate8to32]: 32,
  [OpKind.Immediate8to64]: 64,
  [OpKind.Immediate32to64]: 64,
};
const REGISTER_KINDS = new Set(["E", "G", "R", "Z", "V", "W", "U", "P", "Q", "N", "S", "C", "D"]);
const FS = 4;
const RIP_BASE = 16;

/** iced-x86 and our decoder over the same bytes. */
export class Agreement {
  readonly #decoder: Decoder;
  readonly #instruction = new Instruction();
  /** Instructions of which also the operands have been compared. */
  operandsCompared = 0;

  /** @param address linear address of the first byte. */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly mode: 64 | 32,
    private readonly address: bigint,
  ) {
    this.#decoder = new Decoder(mode, bytes, DecoderOptions.None);
  }

  free(): void {
    this.#instruction.free();
    this.#decoder.free();
  }

  /** Compares at an offset. Says what differs, or null; `next` is where iced goes on. */
  at(offset: number): { readonly next: number; readonly difference: string | null } {
    const decoder = this.#decoder;
    const theirs = this.#instruction;
    decoder.position = offset;
    decoder.ip = this.address + BigInt(offset);
    decoder.decodeOut(theirs);
    const ours = decode(this.bytes, offset, this.bytes.length, this.mode);
    const length = theirs.isInvalid ? 1 : theirs.length;
    const found = this.#compare(theirs, ours, offset);
    if (found === null) return { next: offset + length, difference: null };
    const code = Buffer.from(this.bytes.subarray(offset, offset + 15)).toString("hex");
    return { next: offset + length, difference: `${code}: ${found}` };
  }

  #compare(theirs: Instruction, ours: Decoded | string, offset: number): string | null {
    const name = (Mnemonic[theirs.mnemonic] as string).toLowerCase();
    const opinions: Opinions = { bytes: this.bytes.subarray(offset, offset + 15), mode: this.mode, theirs: name, ours };
    if (DIFFERENCES.some(({ applies }) => applies(opinions))) return null;
    if (typeof ours === "string") {
      if (theirs.isInvalid || ours !== "undefined") return theirs.isInvalid ? null : `ours says ${ours}, iced ${name}`;
      const features = [...theirs.cpuidFeatures()].map((feature) => CpuidFeature[feature] as string);
      return features.every((feature) => ADVERTISED.has(feature)) ? `ours says undefined, iced ${name}` : null;
    }
    if (theirs.isInvalid) return `ours says ${ours.mnemonic}, iced says invalid`;
    if (theirs.length !== ours.length) return `${ours.length} bytes, iced ${theirs.length} (${name})`;
    if (!sameMnemonic(ours.mnemonic, name)) return `ours says ${ours.mnemonic}, iced ${name}`;
    return this.#operands(theirs, ours, offset);
  }

  #operands(theirs: Instruction, ours: Decoded, offset: number): string | null {
    const { operands } = ours.row;
    if (theirs.opCount !== operands.length) return null;
    this.operandsCompared++;
    for (let n = 0; n < operands.length; n++) {
      const { kind } = operands[n] as (typeof operands)[number];
      const theirKind = theirs.opKind(n);
      const register = ours.registers[n] as number;
      if (theirKind === OpKind.Register) {
        const expected = REGISTER_NUMBERS.get(theirs.opRegister(n));
        // There are eight MMX registers: REX.R and REX.B do not reach them.
        if ("PQN".includes(kind) && expected === (register & 7)) continue;
        if (REGISTER_KINDS.has(kind) && expected !== register)
          return `operand ${n} is register ${register}, iced ${expected}`;
      } else if (theirKind === OpKind.Memory) {
        const wrong = this.#memory(theirs, ours);
        if (wrong) return wrong;
      } else if (kind === "J") {
        const next = this.address + BigInt(offset + ours.length);
        const bits = this.mode === 64 ? 64 : ours.variantSize * 8;
        const target = BigInt.asUintN(bits, next + ours.immediate);
        if (target !== theirs.nearBranchTarget)
          return `target ${target.toString(16)}, iced ${theirs.nearBranchTarget.toString(16)}`;
      } else if ((kind === "I" || kind === "sI") && IMMEDIATE_BITS[theirKind]) {
        const bits = IMMEDIATE_BITS[theirKind] as number;
        const first = operands.findIndex((operand) => operand.kind === "I" || operand.kind === "sI") === n;
        const value = first ? ours.immediate : BigInt(ours.immediate2);
        const expected = BigInt.asUintN(bits, theirs.immediate(n));
        if (BigInt.asUintN(bits, value) !== expected) return `immediate ${value}, iced ${expected}`;
      }
    }
    return null;
  }

  #memory(theirs: Instruction, ours: Decoded): string | null {
    const { memory } = ours;
    if (!memory) return "no memory operand, iced has one";
    const ripRelative = theirs.isIpRelMemoryOperand;
    const base = ripRelative ? RIP_BASE : (REGISTER_NUMBERS.get(theirs.memoryBase) ?? -1);
    if (base !== memory.base) return `base ${memory.base}, iced ${base}`;
    const index = REGISTER_NUMBERS.get(theirs.memoryIndex) ?? -1;
    if (index !== memory.index) return `index ${memory.index}, iced ${index}`;
    if (index >= 0 && theirs.memoryIndexScale !== 1 << memory.scale)
      return `scale ${memory.scale}, iced ${theirs.memoryIndexScale}`;
    const bits = ours.addressSize * 8;
    const next = ripRelative ? theirs.nextIP : 0n;
    const displacement = BigInt.asUintN(bits, memory.displacement + next);
    const expected = BigInt.asUintN(bits, theirs.memoryDisplacement);
    if (displacement !== expected) return `displacement ${displacement.toString(16)}, iced ${expected.toString(16)}`;
    const segment = REGISTER_NUMBERS.get(theirs.memorySegment) ?? -1;
    const flat = this.mode === 64 && segment < FS && memory.segment < FS;
    return flat || segment === memory.segment ? null : `segment ${memory.segment}, iced ${segment}`;
  }
}
