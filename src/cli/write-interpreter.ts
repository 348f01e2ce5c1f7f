import { writeFileSync } from "node:fs";
import { interpreterImage } from "../cpu/interpreter/compiled.js";
import { INTERPRETER_FILE } from "./interpreter-file.js";

// The last step of the build: generating the interpreter takes longer than everything else that a start does before the guest.
writeFileSync(INTERPRETER_FILE, interpreterImage(true));
