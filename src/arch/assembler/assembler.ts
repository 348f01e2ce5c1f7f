import { AssemblerError } from "./assembler-error.js";
import { CodeBuffer } from "./code-buffer.js";
import { type CodeBits, encodeModRm, putRex, type RegisterOperand } from "./encoder.js";
import { type Immediate, isGpr, isMemory, Label, type Memory, type Place } from "./operands.js";
import type { Gpr, SegmentRegister, SystemRegister, Width } from "./registers.js";
import {
  CONDITIONS,
  type Condition,
  LONG_MODE_ONLY,
  SIMPLE_INSTRUCTIONS,
  type SimpleMnemonic,
  STRING_INSTRUCTIONS,
  type StringMnemonic,
} from "./simple-instructions.js";

/** Second operand of an instruction that works on a place of width `W`. */
type Source<W extends Width> = Place<NoInfer<W>> | Immediate;

/** Where a jump or call goes: a label, or what a register or memory holds. */
type Target = Label | Gpr | Memory;

type WidthOrNatural = 16 | 32 | 64;

const ALU = {
  add: 0,
  or: 1,
  adc: 2,
  sbb: 3,
  and: 4,
  sub: 5,
  xor: 6,
  cmp: 7,
} as const;
const SHIFT = {
  rol: 0,
  ror: 1,
  rcl: 2,
  rcr: 3,
  shl: 4,
  shr: 5,
  sar: 7,
} as const;
const UNARY = { not: 2, neg: 3, mul: 4, imul: 5, div: 6, idiv: 7 } as const;
const BIT = { bt: 4, bts: 5, btr: 6, btc: 7 } as const;

const fitsSigned = (value: bigint, bits: number) => BigInt.asIntN(bits, value) === value;

/**
 * Assembles 32- and 64-bit x86 code: one method per mnemonic, operands in Intel order. `bits` says which code the
 * processor executes at that point and may change on the way.
 *
 *     const asm = new Assembler({ origin: 0x1000, bits: 64 });
 *     const again = asm.here("again");
 *     asm.mov(rax, 5n);
 *     asm.loop(again);
 *     const bytes = asm.finish();
 */
export class Assembler {
  bits: CodeBits;
  readonly #code: CodeBuffer;

  constructor({ origin = 0, bits }: { readonly origin?: number; readonly bits: CodeBits }) {
    this.bits = bits;
    this.#code = new CodeBuffer(origin);
  }

  /** Bytes so far. */
  get length(): number {
    return this.#code.length;
  }

  /** Linear address of the next byte. */
  get address(): number {
    return this.#code.address;
  }

  /** The finished bytes, all labels resolved. */
  finish(): Uint8Array {
    return this.#code.finish();
  }

  // Labels and data

  label(name: string): Label {
    return new Label(name);
  }

  bind(label: Label): void {
    this.#code.bind(label);
  }

  /** A label at this place. */
  here(name: string): Label {
    const label = new Label(name);
    this.bind(label);
    return label;
  }

  db(...values: readonly (number | string | Uint8Array)[]): void {
    for (const value of values) {
      if (typeof value === "number") this.#code.putValue(value, 1);
      else this.#code.append(typeof value === "string" ? asciiBytes(value) : value);
    }
  }

  dw(...values: readonly Immediate[]): void {
    for (const value of values) this.#code.putValue(value, 2);
  }

  dd(...values: readonly (Immediate | Label)[]): void {
    for (const value of values) this.#code.putValue(value, 4);
  }

  dq(...values: readonly (Immediate | Label)[]): void {
    for (const value of values) this.#code.putValue(value, 8);
  }

  /** Fills up to a multiple of `alignment` (a power of two). */
  align(alignment: number, fill = 0): void {
    this.padTo(Math.ceil(this.address / alignment) * alignment, fill);
  }

  /** Fills up to a linear address that lies ahead. */
  padTo(address: number, fill = 0): void {
    const count = address - this.address;
    if (count < 0) throw new AssemblerError(`code has grown ${-count} bytes past 0x${address.toString(16)}`);
    this.#code.append(new Uint8Array(count).fill(fill));
  }

  // Moves

  mov(to: SegmentRegister, from: Gpr): void;
  mov(to: Gpr, from: SegmentRegister): void;
  mov(to: SystemRegister, from: Gpr<32 | 64>): void;
  mov(to: Gpr<32 | 64>, from: SystemRegister): void;
  mov<W extends Width>(to: Place<W>, from: Source<W> | Label): void;
  mov(
    to: Place<Width> | SegmentRegister | SystemRegister,
    from: Place<Width> | SegmentRegister | SystemRegister | Immediate | Label,
  ): void {
    if (typeof from === "object" && "kind" in from && from.kind !== "gpr" && from.kind !== "memory") {
      this.#movFromSpecial(to as Gpr, from);
    } else if (to.kind === "segment") {
      this.#modRm({ opcode: [0x8e], reg: to.code, rm: from as Gpr });
    } else if (to.kind === "control" || to.kind === "debug") {
      const opcode = to.kind === "control" ? 0x22 : 0x23;
      this.#modRm({
        opcode: [0x0f, opcode],
        reg: asRegister(to),
        rm: this.#natural(from as Gpr),
      });
    } else if (from instanceof Label || typeof from !== "object") {
      this.#movImmediate(to as Place<Width>, from);
    } else {
      this.#regRm(0x88, to as Place<Width>, from as Place<Width>);
    }
  }

  #movFromSpecial(to: Gpr, from: SegmentRegister | SystemRegister): void {
    if (from.kind === "segment") {
      this.#modRm({
        opcode: [0x8c],
        reg: from.code,
        rm: to,
        width: to.width === 8 ? undefined : to.width,
      });
      return;
    }
    const opcode = from.kind === "control" ? 0x20 : 0x21;
    this.#modRm({
      opcode: [0x0f, opcode],
      reg: asRegister(from),
      rm: this.#natural(to),
    });
  }

  #movImmediate(to: Place<Width>, value: Immediate | Label): void {
    const { width } = to;
    const wide = width === 64 && (value instanceof Label || !fitsSigned(BigInt(value), 32));
    if (isMemory(to) || (width === 64 && !wide)) {
      if (value instanceof Label) throw new AssemblerError("store a label's address through a register");
      if (wide) throw new AssemblerError("no 64-bit immediate can be stored to memory");
      const opcode = width === 8 ? 0xc6 : 0xc7;
      this.#modRm({
        opcode: [opcode],
        reg: 0,
        rm: to,
        width,
        immediate: { value, size: immediateSize(width) },
      });
      return;
    }
    if (width === 16) this.#code.put(0x66);
    putRex(this.#code, this.bits, {
      w: wide,
      r: 0,
      x: 0,
      b: to.code,
      operands: [to],
    });
    this.#code.put((width === 8 ? 0xb0 : 0xb8) | (to.code & 7));
    this.#code.putValue(value, (width / 8) as 1 | 2 | 4 | 8);
  }

  movzx(to: Gpr<16 | 32 | 64>, from: Place<8> | Place<16>): void {
    this.#modRm({
      opcode: [0x0f, from.width === 8 ? 0xb6 : 0xb7],
      reg: to,
      rm: from,
      width: to.width,
    });
  }

  movsx(to: Gpr<16 | 32 | 64>, from: Place<8> | Place<16>): void {
    this.#modRm({
      opcode: [0x0f, from.width === 8 ? 0xbe : 0xbf],
      reg: to,
      rm: from,
      width: to.width,
    });
  }

  movsxd(to: Gpr<64>, from: Place<32>): void {
    this.#modRm({ opcode: [0x63], reg: to, rm: from, width: 64 });
  }

  /** The width of the memory operand does not matter. */
  lea(to: Gpr<WidthOrNatural>, from: Memory): void {
    this.#modRm({ opcode: [0x8d], reg: to, rm: from, width: to.width });
  }

  xchg<W extends Width>(place: Place<W>, register: Gpr<NoInfer<W>>): void {
    this.#modRm({
      opcode: [sized(0x86, register.width)],
      reg: register,
      rm: place,
      width: register.width,
    });
  }

  cmpxchg<W extends Width>(place: Place<W>, register: Gpr<NoInfer<W>>): void {
    this.#modRm({
      opcode: [0x0f, sized(0xb0, register.width)],
      reg: register,
      rm: place,
      width: register.width,
    });
  }

  xadd<W extends Width>(place: Place<W>, register: Gpr<NoInfer<W>>): void {
    this.#modRm({
      opcode: [0x0f, sized(0xc0, register.width)],
      reg: register,
      rm: place,
      width: register.width,
    });
  }

  bswap(register: Gpr<32 | 64>): void {
    this.#opcodePlusRegister([0x0f], 0xc8, register, register.width === 64);
  }

  cmov(condition: Condition, to: Gpr<WidthOrNatural>, from: Place<WidthOrNatural>): void {
    this.#modRm({
      opcode: [0x0f, 0x40 | CONDITIONS[condition]],
      reg: to,
      rm: from,
      width: to.width,
    });
  }

  set(condition: Condition, to: Place<8>): void {
    this.#modRm({
      opcode: [0x0f, 0x90 | CONDITIONS[condition]],
      reg: 0,
      rm: to,
    });
  }

  movdir64b(destination: Gpr<32 | 64>, source: Memory): void {
    if (destination.width !== this.bits) throw new AssemblerError("the destination has the width of an address");
    this.#modRm({
      prefix: 0x66,
      opcode: [0x0f, 0x38, 0xf8],
      reg: destination,
      rm: source,
    });
  }

  movdiri(to: Memory<32> | Memory<64>, from: Gpr<32 | 64>): void {
    this.#modRm({
      opcode: [0x0f, 0x38, 0xf9],
      reg: from,
      rm: to,
      width: from.width,
    });
  }

  // Stack

  push(value: Gpr<16 | 32 | 64> | Memory<16 | 32 | 64> | Immediate): void {
    if (typeof value === "object") {
      const width = value.width === this.bits ? undefined : this.#only16(value.width);
      if (isMemory(value)) this.#modRm({ opcode: [0xff], reg: 6, rm: value, width });
      else this.#opcodePlusRegister(width === 16 ? [0x66] : [], 0x50, value, false);
      return;
    }
    const short = fitsSigned(BigInt(value), 8);
    this.#code.put(short ? 0x6a : 0x68);
    this.#code.putValue(value, short ? 1 : 4);
  }

  pop(to: Gpr<16 | 32 | 64> | Memory<16 | 32 | 64>): void {
    const width = to.width === this.bits ? undefined : this.#only16(to.width);
    if (isMemory(to)) this.#modRm({ opcode: [0x8f], reg: 0, rm: to, width });
    else this.#opcodePlusRegister(width === 16 ? [0x66] : [], 0x58, to, false);
  }

  // Arithmetic and logic

  add<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("add", to, from);
  }
  or<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("or", to, from);
  }
  adc<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("adc", to, from);
  }
  sbb<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("sbb", to, from);
  }
  and<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("and", to, from);
  }
  sub<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("sub", to, from);
  }
  xor<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("xor", to, from);
  }
  cmp<W extends Width>(to: Place<W>, from: Source<W>): void {
    this.#alu("cmp", to, from);
  }

  test<W extends Width>(place: Place<W>, from: Gpr<NoInfer<W>> | Immediate): void {
    const { width } = place;
    if (typeof from === "object") {
      this.#modRm({
        opcode: [sized(0x84, width)],
        reg: from,
        rm: place,
        width,
      });
      return;
    }
    const immediate = {
      value: this.#checked(from, width),
      size: immediateSize(width),
    };
    this.#modRm({
      opcode: [sized(0xf6, width)],
      reg: 0,
      rm: place,
      width,
      immediate,
    });
  }

  inc(place: Place<Width>): void {
    this.#modRm({
      opcode: [sized(0xfe, place.width)],
      reg: 0,
      rm: place,
      width: place.width,
    });
  }
  dec(place: Place<Width>): void {
    this.#modRm({
      opcode: [sized(0xfe, place.width)],
      reg: 1,
      rm: place,
      width: place.width,
    });
  }
  not(place: Place<Width>): void {
    this.#unary("not", place);
  }
  neg(place: Place<Width>): void {
    this.#unary("neg", place);
  }
  mul(place: Place<Width>): void {
    this.#unary("mul", place);
  }
  div(place: Place<Width>): void {
    this.#unary("div", place);
  }
  idiv(place: Place<Width>): void {
    this.#unary("idiv", place);
  }

  /** One operand: RDX:RAX := RAX * place. Two: register *= place. Three: register := place * immediate. */
  imul<W extends Width>(to: Place<W>, from?: Place<NoInfer<W>>, by?: Immediate): void {
    const { width } = to;
    if (from === undefined) {
      this.#unary("imul", to);
      return;
    }
    if (isMemory(to) || width === 8)
      throw new AssemblerError("imul with two operands needs a register of 16 bits or more");
    if (by === undefined) {
      this.#modRm({ opcode: [0x0f, 0xaf], reg: to, rm: from, width });
      return;
    }
    const short = fitsSigned(BigInt(by), 8);
    const immediate = {
      value: this.#checked(by, width),
      size: short ? 1 : immediateSize(width),
    } as const;
    this.#modRm({
      opcode: [short ? 0x6b : 0x69],
      reg: to,
      rm: from,
      width,
      immediate,
    });
  }

  shl(place: Place<Width>, count: number | Gpr<8>): void {
    this.#shift("shl", place, count);
  }
  shr(place: Place<Width>, count: number | Gpr<8>): void {
    this.#shift("shr", place, count);
  }
  sar(place: Place<Width>, count: number | Gpr<8>): void {
    this.#shift("sar", place, count);
  }
  rol(place: Place<Width>, count: number | Gpr<8>): void {
    this.#shift("rol", place, count);
  }
  ror(place: Place<Width>, count: number | Gpr<8>): void {
    this.#shift("ror", place, count);
  }

  bt(place: Place<WidthOrNatural>, bit: number | Gpr<WidthOrNatural>): void {
    this.#bit("bt", place, bit);
  }
  bts(place: Place<WidthOrNatural>, bit: number | Gpr<WidthOrNatural>): void {
    this.#bit("bts", place, bit);
  }
  btr(place: Place<WidthOrNatural>, bit: number | Gpr<WidthOrNatural>): void {
    this.#bit("btr", place, bit);
  }
  btc(place: Place<WidthOrNatural>, bit: number | Gpr<WidthOrNatural>): void {
    this.#bit("btc", place, bit);
  }

  // Control flow

  jmp(target: Target): void {
    if (!(target instanceof Label)) this.#indirect(4, target);
    else this.#branch([0xeb], [0xe9], target);
  }

  call(target: Target): void {
    if (!(target instanceof Label)) {
      this.#indirect(2, target);
      return;
    }
    this.#code.put(0xe8);
    this.#code.putRelative(target, 4);
  }

  /** Conditional jump: `asm.j("ne", label)`. */
  j(condition: Condition, target: Label): void {
    this.#branch([0x70 | CONDITIONS[condition]], [0x0f, 0x80 | CONDITIONS[condition]], target);
  }

  loop(target: Label): void {
    this.#short(0xe2, target);
  }
  loope(target: Label): void {
    this.#short(0xe1, target);
  }
  loopne(target: Label): void {
    this.#short(0xe0, target);
  }
  /** Jumps if RCX (ECX in 32-bit code) is zero. */
  jrcxz(target: Label): void {
    this.#short(0xe3, target);
  }

  /** Far jump to an address in the code itself: 32-bit code only. */
  jmpFar(selector: number, target: Label | Immediate): void {
    if (this.bits !== 32) throw new AssemblerError("a far jump with an immediate address exists in 32-bit code only");
    this.#code.put(0xea);
    this.#code.putValue(target, 4);
    this.#code.putValue(selector, 2);
  }

  /** Far jump through memory: offset of `width` bits, then the selector. */
  jmpFarIndirect(pointer: Memory<32 | 64>): void {
    this.#modRm({ opcode: [0xff], reg: 5, rm: pointer, width: pointer.width });
  }

  /** Return that takes `bytes` of parameters from the stack. */
  retPop(bytes: number): void {
    this.#code.put(0xc2);
    this.#code.putValue(bytes, 2);
  }

  int(vector: number): void {
    this.#code.put(0xcd);
    this.#code.putValue(vector, 1);
  }

  // System

  /** Reads a port: `asm.in(al, dx)` or `asm.in(al, 0x60)`. */
  in(to: Gpr<8 | 16 | 32>, port: Gpr<16> | number): void {
    this.#portIo(0xe4, to, port);
  }

  /** Writes a port. */
  out(port: Gpr<16> | number, from: Gpr<8 | 16 | 32>): void {
    this.#portIo(0xe6, from, port);
  }

  sgdt(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0x01], reg: 0, rm: place });
  }
  sidt(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0x01], reg: 1, rm: place });
  }
  lgdt(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0x01], reg: 2, rm: place });
  }
  lidt(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0x01], reg: 3, rm: place });
  }
  lldt(selector: Place<16>): void {
    this.#modRm({ opcode: [0x0f, 0x00], reg: 2, rm: selector });
  }
  ltr(selector: Place<16>): void {
    this.#modRm({ opcode: [0x0f, 0x00], reg: 3, rm: selector });
  }
  invlpg(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0x01], reg: 7, rm: place });
  }
  clflush(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0xae], reg: 7, rm: place });
  }
  ldmxcsr(place: Memory<32>): void {
    this.#modRm({ opcode: [0x0f, 0xae], reg: 2, rm: place });
  }
  stmxcsr(place: Memory<32>): void {
    this.#modRm({ opcode: [0x0f, 0xae], reg: 3, rm: place });
  }
  fxsave(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0xae], reg: 0, rm: place });
  }
  fxrstor(place: Memory): void {
    this.#modRm({ opcode: [0x0f, 0xae], reg: 1, rm: place });
  }
  rdrand(to: Gpr<WidthOrNatural>): void {
    this.#modRm({ opcode: [0x0f, 0xc7], reg: 6, rm: to, width: to.width });
  }
  rdseed(to: Gpr<WidthOrNatural>): void {
    this.#modRm({ opcode: [0x0f, 0xc7], reg: 7, rm: to, width: to.width });
  }

  /** LOCK prefix for the instruction that follows. */
  lock(): void {
    this.#code.put(0xf0);
  }

  /** String instruction, repeated or not: `asm.string("stosq", "rep")`. */
  string(mnemonic: StringMnemonic, repeat?: "rep" | "repe" | "repne"): void {
    if (mnemonic.endsWith("q") && this.bits !== 64) throw new AssemblerError(`${mnemonic} exists in 64-bit code only`);
    if (repeat) this.#code.put(repeat === "repne" ? 0xf2 : 0xf3);
    this.#code.put(...STRING_INSTRUCTIONS[mnemonic]);
  }

  /** An instruction without operands: `asm.op("cpuid")`. */
  op(mnemonic: SimpleMnemonic): void {
    if (LONG_MODE_ONLY.has(mnemonic) && this.bits !== 64) {
      throw new AssemblerError(`${mnemonic} exists in 64-bit code only`);
    }
    this.#code.put(...SIMPLE_INSTRUCTIONS[mnemonic]);
  }

  // Groups

  #alu(name: keyof typeof ALU, to: Place<Width>, from: Place<Width> | Immediate): void {
    const operation = ALU[name];
    const { width } = to;
    if (typeof from === "object") {
      this.#regRm(operation << 3, to, from);
      return;
    }
    const value = this.#checked(from, width);
    const short = width > 8 && fitsSigned(value, 8);
    const opcode = width === 8 ? 0x80 : short ? 0x83 : 0x81;
    const size = short ? 1 : immediateSize(width);
    this.#modRm({
      opcode: [opcode],
      reg: operation,
      rm: to,
      width,
      immediate: { value, size },
    });
  }

  #unary(name: keyof typeof UNARY, place: Place<Width>): void {
    this.#modRm({
      opcode: [sized(0xf6, place.width)],
      reg: UNARY[name],
      rm: place,
      width: place.width,
    });
  }

  #shift(name: keyof typeof SHIFT, place: Place<Width>, count: number | Gpr<8>): void {
    const { width } = place;
    const reg = SHIFT[name];
    if (typeof count === "object") {
      if (count.name !== "cl") throw new AssemblerError("a shift counts by an immediate or by CL");
      this.#modRm({ opcode: [sized(0xd2, width)], reg, rm: place, width });
    } else if (count === 1) {
      this.#modRm({ opcode: [sized(0xd0, width)], reg, rm: place, width });
    } else {
      const immediate = { value: count, size: 1 } as const;
      this.#modRm({
        opcode: [sized(0xc0, width)],
        reg,
        rm: place,
        width,
        immediate,
      });
    }
  }

  #bit(name: keyof typeof BIT, place: Place<WidthOrNatural>, bit: number | Gpr<WidthOrNatural>): void {
    const { width } = place;
    if (typeof bit === "object") {
      this.#modRm({
        opcode: [0x0f, 0x83 | (BIT[name] << 3)],
        reg: bit,
        rm: place,
        width,
      });
    } else {
      const immediate = { value: bit, size: 1 } as const;
      this.#modRm({
        opcode: [0x0f, 0xba],
        reg: BIT[name],
        rm: place,
        width,
        immediate,
      });
    }
  }

  /** The two directions of an instruction between register and register or memory. */
  #regRm(opcode: number, to: Place<Width>, from: Place<Width>): void {
    if (to.width !== from.width) throw new AssemblerError(`operands of ${to.width} and ${from.width} bits`);
    const { width } = to;
    if (isGpr(from)) this.#modRm({ opcode: [sized(opcode, width)], reg: from, rm: to, width });
    else if (isGpr(to))
      this.#modRm({
        opcode: [sized(opcode | 2, width)],
        reg: to,
        rm: from,
        width,
      });
    else throw new AssemblerError("only one operand can lie in memory");
  }

  #indirect(extension: number, target: Gpr | Memory): void {
    if (target.width !== this.bits) throw new AssemblerError(`an indirect branch takes a ${this.bits}-bit address`);
    this.#modRm({ opcode: [0xff], reg: extension, rm: target });
  }

  /** Short if the label lies close behind, near otherwise. */
  #branch(short: readonly number[], near: readonly number[], target: Label): void {
    const distance = target.address === undefined ? undefined : target.address - (this.address + short.length + 1);
    const isShort = distance !== undefined && distance >= -128;
    this.#code.put(...(isShort ? short : near));
    this.#code.putRelative(target, isShort ? 1 : 4);
  }

  #short(opcode: number, target: Label): void {
    this.#code.put(opcode);
    this.#code.putRelative(target, 1);
  }

  #portIo(opcode: number, register: Gpr<8 | 16 | 32>, port: Gpr<16> | number): void {
    if (register.code !== 0) throw new AssemblerError("port I/O goes through AL, AX or EAX");
    if (register.width === 16) this.#code.put(0x66);
    if (typeof port === "object") {
      if (port.name !== "dx") throw new AssemblerError("a port is an immediate or DX");
      this.#code.put(sized(opcode | 8, register.width));
    } else {
      this.#code.put(sized(opcode, register.width));
      this.#code.putValue(port, 1);
    }
  }

  #opcodePlusRegister(before: readonly number[], opcode: number, register: Gpr, w: boolean): void {
    const prefixes = before.filter((byte) => byte === 0x66);
    this.#code.put(...prefixes);
    putRex(this.#code, this.bits, {
      w,
      r: 0,
      x: 0,
      b: register.code,
      operands: [register],
    });
    this.#code.put(...before.slice(prefixes.length), opcode | (register.code & 7));
  }

  #modRm(instruction: Parameters<typeof encodeModRm>[2]): void {
    encodeModRm(this.#code, this.bits, instruction);
  }

  /** Registers that MOV CR and MOV DR take have the width of the code. */
  #natural(register: Gpr): Gpr {
    if (register.width !== this.bits) throw new AssemblerError(`${register.name} in ${this.bits}-bit code`);
    return register;
  }

  #only16(width: Width): 16 {
    if (width !== 16) throw new AssemblerError(`no ${width}-bit push or pop in ${this.bits}-bit code`);
    return width;
  }

  /** Immediates of 64-bit instructions are 32 bits with a sign; others may be written unsigned. */
  #checked(value: Immediate, width: Width): bigint {
    const wide = BigInt(value);
    if (width !== 64) return BigInt.asUintN(width, wide) === wide ? BigInt.asIntN(width, wide) : wide;
    if (!fitsSigned(wide, 32)) throw new AssemblerError(`0x${wide.toString(16)} does not fit in 32 bits with a sign`);
    return wide;
  }
}

/** Opcode of the 8-bit form, or of the others, which is one higher. */
const sized = (opcode: number, width: Width) => (width === 8 ? opcode : opcode | 1);

const immediateSize = (width: Width): 1 | 2 | 4 => (width === 8 ? 1 : width === 16 ? 2 : 4);

const asRegister = ({ code }: SystemRegister): RegisterOperand => ({
  code,
  needsRex: false,
  forbidsRex: false,
});

function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => {
    const value = character.charCodeAt(0);
    if (value > 0x7f) throw new AssemblerError(`"${text}" has characters beyond ASCII`);
    return value;
  });
}
