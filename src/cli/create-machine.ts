import { UserError } from "./errors.js";
import type { Machine, MachineConfig } from "./machine.js";

export function createMachine(_config: MachineConfig): Machine {
  throw new UserError("NO_MACHINE", "the machine is not built yet", "wait");
}
