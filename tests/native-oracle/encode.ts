import { hasModrm } from "../../src/cpu/isa/row.js";
import { type ParsedRow, rowSizes } from "../../src/cpu/isa/variants.js";
import type { Random } from "./random.js";

/** The bytes of an instruction, and where its displacement or absolute address lies in them. */
export interface Encoded {
  readonly bytes: number[];
  readonly displacementAt: number;
  readonly displacementBytes: number;
  /** Has prefixes that do not belong to the form of the row. */
  readonly unusual: boolean;
}

const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const MEMORY_KINDS = new Set(["E", "M", "W", "Q"]);
const REGISTER_KINDS = new Set(["E", "R", "W", "U", "Q", "N"]);

function shuffle(random: Random, items: number[]): number[] {
  for (let n = items.length - 1; n > 0; n--) {
    const other = random.below(n + 1);
    [items[n], items[other]] = [items[other] as number, items[n] as number];
  }
  return items;
}

/** Encodes one form of a row, chosen at random. */
export function encodeRow(row: ParsedRow, random: Random, mode: 64 | 32): Encoded {
  const { opcode, operands, source } = row;
  const modrmThere = hasModrm(opcode, operands);
  const sizes = rowSizes(row);
  const kinds = operands.map(({ kind }) => kind as string);
  let unusual = false;

  // Operand size: 66 where it is free to choose the size, REX.W where there is REX.
  const sizeFree = opcode.mandatory === "" || opcode.mandatory === "F2" || opcode.mandatory === "F3";
  const small = sizes.includes(2) && sizes.length > 1 && sizeFree && random.chance(0.25);
  const legacy: number[] = [];
  if (small) legacy.push(0x66);
  let mandatory = 0;
  if (opcode.mandatory === "66") legacy.push(0x66);
  else if (opcode.mandatory !== "" && opcode.mandatory !== "NP") mandatory = Number.parseInt(opcode.mandatory, 16);
  const wide = mode === 64 && random.chance(sizes.includes(8) ? 0.4 : 0.05);
  const rexPresent = mode === 64 && (wide || random.chance(0.45));
  const rex = rexPresent ? 0x40 | (wide ? 8 : 0) | random.below(8) : 0;

  if (random.chance(0.12)) legacy.push(random.pick(SEGMENT_PREFIXES));
  const registerAllowed =
    kinds.some((kind) => REGISTER_KINDS.has(kind)) || !kinds.some((kind) => MEMORY_KINDS.has(kind));
  const memoryAllowed = kinds.some((kind) => MEMORY_KINDS.has(kind));
  const memory = modrmThere && opcode.modrm < 0 && memoryAllowed && (!registerAllowed || random.chance(0.6));
  const address67 = random.chance(mode === 64 ? 0.1 : 0.15);
  if (address67) legacy.push(0x67);
  if (source.lock && memory && random.chance(0.2)) legacy.push(0xf0);
  if (source.repeat && random.chance(0.6)) mandatory = random.chance(0.5) ? 0xf3 : 0xf2;
  if (random.chance(0.015)) {
    unusual = true;
    legacy.push(random.pick([0xf0, 0xf2, 0xf3, 0x66, 0x66, 0x67]));
  }
  if (mandatory) legacy.push(mandatory);
  const bytes = shuffle(random, legacy);
  if (rexPresent) bytes.push(rex);

  if (opcode.map > 0) bytes.push(0x0f);
  if (opcode.map === 2) bytes.push(0x38);
  if (opcode.map === 3) bytes.push(0x3a);
  bytes.push(opcode.plusRegister ? opcode.byte | random.below(8) : opcode.byte);

  let displacementAt = -1;
  let displacementBytes = 0;
  const addressSize = mode === 64 ? (address67 ? 4 : 8) : address67 ? 2 : 4;
  if (modrmThere) {
    if (opcode.modrm >= 0) bytes.push(opcode.modrm);
    else {
      const reg = opcode.extension >= 0 ? opcode.extension : random.below(kinds.includes("S") ? 6 : 8);
      const rm = random.below(8);
      if (!memory) bytes.push(0xc0 | (reg << 3) | rm);
      else {
        const mod = random.below(3);
        bytes.push((mod << 6) | (reg << 3) | rm);
        if (addressSize === 2) displacementBytes = mod === 0 ? (rm === 6 ? 2 : 0) : mod;
        else {
          displacementBytes = mod === 0 ? (rm === 5 ? 4 : 0) : mod === 1 ? 1 : 4;
          if (rm === 4) {
            const sib = random.below(256);
            bytes.push(sib);
            if ((sib & 7) === 5 && mod === 0) displacementBytes = 4;
          }
        }
        displacementAt = bytes.length;
        const near = random.chance(0.5);
        for (let n = 0; n < displacementBytes; n++) bytes.push(n >= 2 && near ? 0 : random.below(256));
      }
    }
  }
  const size = small ? 2 : wide ? 8 : 4;
  for (const { kind, size: letter } of operands) {
    let count = 0;
    if (kind === "O") {
      displacementAt = bytes.length;
      displacementBytes = addressSize;
      count = addressSize;
    } else if (kind === "sI") count = 1;
    else if (kind === "I") count = letter === "b" ? 1 : letter === "w" ? 2 : letter === "v" ? size : Math.min(size, 4);
    else if (kind === "J") count = letter === "b" ? 1 : mode === 64 ? 4 : Math.min(size, 4);
    else if (kind === "A") count = Math.min(size, 4) + 2;
    const edge = random.below(4);
    for (let n = 0; n < count; n++) {
      const last = n === count - 1;
      bytes.push(
        edge === 0
          ? last
            ? 0x7f
            : 0xff
          : edge === 1
            ? last
              ? 0x80
              : 0
            : edge === 2 && n > 0
              ? 0
              : random.below(256),
      );
    }
  }
  return { bytes, displacementAt, displacementBytes, unusual };
}

/** Any bytes behind any prefixes: what is not an instruction must be #UD. */
export function encodeAnything(random: Random, mode: 64 | 32): Encoded {
  const bytes: number[] = [];
  while (random.chance(0.3) && bytes.length < 4) bytes.push(random.pick([0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x2e, 0x64]));
  if (mode === 64 && random.chance(0.3)) bytes.push(0x40 | random.below(16));
  const map = random.below(10);
  if (map >= 3) bytes.push(0x0f);
  if (map === 8) bytes.push(0x38);
  if (map === 9) bytes.push(0x3a);
  for (let n = 0; n < 10; n++) bytes.push(random.below(256));
  return { bytes: bytes.slice(0, 15), displacementAt: -1, displacementBytes: 0, unusual: true };
}
