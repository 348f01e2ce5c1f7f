import { prepare } from "../../bin/prepare.js";

/** Before any test: the command is built, once, for all tests that start it. */
export function setup(): void {
  prepare();
  process.env.SEAMLESS_PREPARED = "1";
}
