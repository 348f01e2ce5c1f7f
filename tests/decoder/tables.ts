import type { Decoded } from "../../src/cpu/decoder/decode.js";

/** What both decoders say of the same bytes. */
export interface Opinions {
  readonly bytes: Uint8Array;
  readonly mode: 64 | 32;
  /** iced's mnemonic in lower case, "invalid" for none. */
  readonly theirs: string;
  readonly ours: Decoded | string;
}

/** Our mnemonic by iced's, where one row of ours covers what has a name for each operand or address size. */
const NAMES: readonly (readonly [ours: RegExp, theirs: RegExp])[] = [
  [/^(movs|cmps|stos|lods|scas)$/, /^(movs|cmps|stos|lods|scas)[bwdq]$/],
  [/^(ins|outs)$/, /^(ins|outs)[bwd]$/],
  [/^cbw$/, /^(cbw|cwde|cdqe)$/],
  [/^cwd$/, /^(cwd|cdq|cqo)$/],
  [/^xlat$/, /^xlatb$/],
  [/^(pushf|popf|iret|sysret|pusha|popa)$/, /^(pushf|popf|iret|sysret|pusha|popa)[dq]?$/],
  [/^ret$/, /^retf?$/],
  [/^sysexit$/, /^sysexitq?$/],
  [/^jrcxz$/, /^j[er]?cxz$/],
  [/^cmpxchg8b$/, /^cmpxchg(8|16)b$/],
  [/^mov$/, /^movabs$/],
  [/^movd$/, /^movq$/],
  [/^pinsrd$/, /^pinsrq$/],
  [/^pextrd$/, /^pextrq$/],
  [/^fwait$/, /^wait$/],
  [/^(nop|prefetchw?)$/, /^(nop|reservednop|prefetch.*|endbr\d+|rdssp.|bnd.*|cldemote|incssp.)$/],
  [
    /^(fxsave|fxrstor|xsave|xrstor|xsaveopt|xsavec|xsaves|xrstors)$/,
    /^(fxsave|fxrstor|xsave|xrstor|xsaveopt|xsavec|xsaves|xrstors)64$/,
  ],
  [/^pcmpestr[im]$/, /^pcmpestr[im]64$/],
  [/^getsec$/, /^getsecq$/],
  [/^clflush$/, /^(clflushopt|clwb)$/],
  [/^vmx$/, /^vm.*$/],
  [/^(call|jmp)$/, /^(call|jmp)$/],
  [/^setalc|salc$/, /^salc$/],
];

export function sameMnemonic(ours: string, theirs: string): boolean {
  return ours === theirs || NAMES.some(([a, b]) => a.test(ours) && b.test(theirs));
}

/** A difference that is meant. */
export interface Difference {
  readonly reason: string;
  readonly applies: (opinions: Opinions) => boolean;
}

const rowOf = ({ ours }: Opinions): string => (typeof ours === "string" ? "" : ours.system || ours.mnemonic);

export const DIFFERENCES: readonly Difference[] = [
  {
    reason:
      "F3 0F BC is TZCNT with BMI1, which our CPUID does not advertise: it is BSF with a prefix that means nothing",
    applies: (opinions) => opinions.theirs === "tzcnt" && rowOf(opinions) === "bsf",
  },
  {
    reason: "with REX.B, F3 90 exchanges R8 and rAX on a real CPU; iced calls it PAUSE",
    applies: (opinions) => opinions.theirs === "pause" && rowOf(opinions) === "xchg",
  },
  {
    reason: "WBNOINVD is not advertised: it is WBINVD with a prefix that means nothing",
    applies: (opinions) => opinions.theirs === "wbnoinvd" && rowOf(opinions) === "wbinvd",
  },
  {
    reason: "what #UD stands behind has a row of its own with a name of ours",
    applies: (opinions) => rowOf(opinions) === "ud" && !/^ud/.test(opinions.theirs),
  },
  {
    reason: "a control, debug or segment register that does not exist: our operation raises #UD",
    applies: (opinions) => opinions.theirs === "invalid" && /^mov-(to|from)-(cr|dr|sreg)$/.test(rowOf(opinions)),
  },
  {
    reason: "SEAMCALL, SEAMRET, SEAMOPS and TDCALL are not among iced's instructions",
    applies: (opinions) => opinions.theirs === "invalid" && /^(seam|tdcall)/.test(rowOf(opinions)),
  },
];
