import { ARENA, CASE, FX, RESULT } from "./arena.js";
import { flagNames, nativeEnding } from "./compare.js";
import { disassemble } from "./disassembly.js";
import type { Generated } from "./generate.js";
import type { Difference } from "./oracle.js";

const NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];

function bytesOf(record: Uint8Array): Uint8Array {
  return record.subarray(CASE.CODE, CASE.CODE + (record[CASE.CODE_LENGTH] as number));
}

/** The command that runs a case again. */
function command(one: Generated, only?: string): string {
  const mode = one.mode === 64 ? "" : " --mode 32";
  return `npm run oracle -- --seed ${one.seed} --case ${one.index}${mode}${only === undefined ? "" : ` --only '${only}'`}`;
}

/** A difference in one line that begins with the command that shows it again. */
export function line({ one, record, lines }: Difference, only?: string): string {
  const name = one.row ? `${one.row.source.mnemonic} ${one.row.source.opcode}` : "any bytes";
  return `${command(one, only)}  # ${name} [${Buffer.from(bytesOf(record)).toString("hex")}] ${lines.slice(0, 4).join("; ")}`;
}

/** Everything about a case. */
export function describe({ one, record, native, ours, lines }: Difference): string {
  const view = new DataView(record.buffer, record.byteOffset, CASE.SIZE);
  const a = new DataView(native.buffer, native.byteOffset, RESULT.SIZE);
  const b = new DataView(ours.buffer, ours.byteOffset, RESULT.SIZE);
  const address = ARENA.CODE + view.getUint16(CASE.CODE_OFFSET, true);
  const quad = (from: DataView, at: number): string => from.getBigUint64(at, true).toString(16).padStart(16, "0");
  const real = nativeEnding(a, record[CASE.STEP] as number);
  const out = [
    `case ${one.index} of seed ${one.seed}, ${one.mode}-bit mode`,
    `bytes   ${Buffer.from(bytesOf(record)).toString("hex")} at 0x${address.toString(16)}`,
    `row     ${one.row ? `${one.row.source.mnemonic} ${one.row.source.opcode} ${one.row.source.operands}` : "any bytes"}`,
    `ours    ${typeof one.decoded === "string" ? one.decoded : `${one.decoded.mnemonic}, ${one.decoded.length} bytes`}`,
    `iced    ${disassemble(bytesOf(record), one.mode, address)}`,
    `target  0x${one.target.toString(16)}`,
    `patch   0x${(ARENA.DATA + view.getUint16(CASE.PATCH_OFFSET, true)).toString(16)}: ${Buffer.from(record.subarray(CASE.PATCH, CASE.PATCH + view.getUint16(CASE.PATCH_LENGTH, true))).toString("hex")}`,
    `flags   ${flagNames(view.getBigUint64(CASE.RFLAGS, true))}  fcw ${view.getUint16(CASE.FX + FX.FCW, true).toString(16)} fsw ${view.getUint16(CASE.FX + FX.FSW, true).toString(16)} ftw ${view.getUint16(CASE.FX + FX.FTW, true).toString(16)} mxcsr ${view.getUint32(CASE.FX + FX.MXCSR, true).toString(16)}`,
    `real    ${real.vector === null ? "completed" : `#${real.vector} code ${real.errorCode} address 0x${real.address.toString(16)}`}, rip 0x${real.rip.toString(16)}`,
    "        before            real CPU          our machine",
  ];
  for (let n = 0; n < 16; n++) {
    out.push(
      `${(NAMES[n] as string).padEnd(8)}${quad(view, CASE.GPR + n * 8)}  ${quad(a, RESULT.GPR + n * 8)}  ${quad(b, RESULT.GPR + n * 8)}`,
    );
  }
  out.push(
    `flags   ${flagNames(a.getBigUint64(RESULT.RFLAGS, true))} | ${flagNames(b.getBigUint64(RESULT.RFLAGS, true))}`,
  );
  for (let n = 0; n < 8; n++) {
    const at = FX.ST + n * 16;
    const st = (from: DataView, base: number): string =>
      `${from
        .getUint16(base + at + 8, true)
        .toString(16)
        .padStart(4, "0")}.${quad(from, base + at)}`;
    out.push(`${`st${n}`.padEnd(8)}${st(view, CASE.FX)}  ${st(a, RESULT.FX)}  ${st(b, RESULT.FX)}`);
  }
  for (let n = 0; n < 16; n++) {
    const at = FX.XMM + n * 16;
    const xmm = (from: DataView, base: number): string => `${quad(from, base + at + 8)}_${quad(from, base + at)}`;
    out.push(`${`xmm${n}`.padEnd(8)}${xmm(view, CASE.FX)}  ${xmm(a, RESULT.FX)}  ${xmm(b, RESULT.FX)}`);
  }
  out.push(lines.length === 0 ? "no difference" : lines.join("\n"));
  return out.join("\n");
}
