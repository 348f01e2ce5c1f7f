import {
  CpuidFeature,
  Decoder,
  DecoderOptions,
  Formatter,
  FormatterSyntax,
  type Instruction,
  Mnemonic,
} from "iced-x86";

/** Decodes with iced-x86 and gives the instruction to `use`; iced's objects live only during the call. */
export function withIced<T>(
  bytes: Uint8Array,
  mode: 64 | 32,
  address: number,
  use: (instruction: Instruction) => T,
): T {
  const decoder = new Decoder(mode, bytes, DecoderOptions.None);
  decoder.ip = BigInt(address);
  const instruction = decoder.decode();
  try {
    return use(instruction);
  } finally {
    instruction.free();
    decoder.free();
  }
}

/** The instruction in Intel's notation, its length and the features that it belongs to. */
export function disassemble(bytes: Uint8Array, mode: 64 | 32, address: number): string {
  return withIced(bytes, mode, address, (instruction) => {
    const formatter = new Formatter(FormatterSyntax.Intel);
    const text = formatter.format(instruction);
    formatter.free();
    return `${text} (${instruction.length} bytes; ${featuresOf(instruction).join(" ")})`;
  });
}

export function featuresOf(instruction: Instruction): string[] {
  return [...instruction.cpuidFeatures()].map((feature) => CpuidFeature[feature] as string);
}

/** What iced makes of it: mnemonic in lower case ("invalid" if it is no instruction) and features. */
export function identifyInstruction(bytes: Uint8Array, mode: 64 | 32): { mnemonic: string; features: string[] } {
  return withIced(bytes, mode, 0, (instruction) => ({
    mnemonic: (Mnemonic[instruction.mnemonic] as string).toLowerCase(),
    features: featuresOf(instruction),
  }));
}
