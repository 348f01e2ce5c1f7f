export { Assembler } from "./assembler.js";
export { AssemblerError } from "./assembler-error.js";
export type { CodeBits } from "./encoder.js";
export { byte, dword, Label, type Memory, qword, word } from "./operands.js";
export * from "./registers.js";
