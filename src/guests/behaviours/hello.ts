import { defineSmallTd } from "../runtime/define.js";

export const hello = defineSmallTd({
  name: "hello",
  summary: "says hello by TDVMCALL and powers off",
  console: "Hello from a trust domain.\n",
  main: (code) => code.finish("Hello from a trust domain.\n"),
});
