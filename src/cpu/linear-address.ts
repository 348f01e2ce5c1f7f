import { CpuException, VECTOR } from "./faults.js";
import type { Instruction } from "./isa/instruction.js";
import { REG, SEG, SEG_SIZE, SEGMENT } from "./layout.js";
import type { CpuState } from "./state.js";

const UNUSABLE = 0x1_0000;
const EXPAND_DOWN_MASK = 0xc;
const EXPAND_DOWN = 4;
const RIP = 16;
/** Opcode byte of BT and its kin with an immediate. */
const BIT_IMMEDIATE = 0xba;

const isCanonical = (address: bigint): boolean => BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;

/** Offset in its segment of an instruction's memory operand. */
function operandOffset(state: CpuState, instruction: Instruction): bigint {
  const { memory } = instruction;
  if (!memory) throw new Error(`${instruction.mnemonic} has no memory operand`);
  let offset = memory.displacement;
  if (memory.base === RIP) offset += state.rip + BigInt(instruction.length);
  else if (memory.base >= 0) offset += state.gpr(memory.base);
  if (memory.index >= 0) offset += state.gpr(memory.index) << BigInt(memory.scale);
  return BigInt.asUintN(instruction.addressSize * 8, offset);
}

/** BT and its kin with the bit's number in a register: the operand is a string of bits around its address. */
function isBitString({ mnemonic, opcode }: Instruction): boolean {
  return /^bt[src]?$/.test(mnemonic) && opcode !== BIT_IMMEDIATE;
}

/** Most bytes that a memory operand has. */
const OPERAND_BYTES = 512n;

/** True if a linear address can be one of the instruction's memory operand. */
export function operandCovers(state: CpuState, instruction: Instruction, address: bigint): boolean {
  const { memory } = instruction;
  if (!memory) return false;
  if (isBitString(instruction)) return true;
  const base = state.get(REG.SEGMENTS + memory.segment * SEG_SIZE + SEG.BASE);
  const based = !state.longMode || memory.segment >= SEGMENT.FS ? base : 0n;
  const distance = BigInt.asUintN(64, address - operandOffset(state, instruction) - based);
  // Outside 64-bit mode a fault address that is not in the segment has been replaced by one that cannot be.
  return distance < OPERAND_BYTES || !state.longMode;
}

/** Linear address of an instruction's memory operand; #GP(0) or #SS(0) if it is not canonical or beyond the limit. */
export function linearAddress(state: CpuState, instruction: Instruction, bytes: number): bigint {
  const { memory } = instruction;
  if (!memory) throw new Error(`${instruction.mnemonic} has no memory operand`);
  const offset = operandOffset(state, instruction);
  const vector = memory.segment === SEGMENT.SS ? VECTOR.SS : VECTOR.GP;
  const at = REG.SEGMENTS + memory.segment * SEG_SIZE;
  if (state.longMode) {
    const linear = BigInt.asUintN(64, memory.segment >= SEGMENT.FS ? offset + state.get(at + SEG.BASE) : offset);
    const last = BigInt.asUintN(64, linear + BigInt(bytes - 1));
    if (!isCanonical(linear) || !isCanonical(last)) throw new CpuException(vector, 0);
    return linear;
  }
  const rights = state.get32(at + SEG.RIGHTS);
  const limit = BigInt(state.get32(at + SEG.LIMIT));
  const last = offset + BigInt(bytes - 1);
  const outside = (rights & EXPAND_DOWN_MASK) === EXPAND_DOWN ? offset <= limit : last > limit;
  if (rights & UNUSABLE || outside) throw new CpuException(vector, 0);
  return BigInt.asUintN(32, offset + state.get(at + SEG.BASE));
}
