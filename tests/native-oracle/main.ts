import { parseArgs } from "node:util";
import { describe, line } from "./describe.js";
import { NoOracle } from "./native.js";
import { Oracle } from "./oracle.js";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    case: { type: "string" },
    cases: { type: "string", default: "100000" },
    first: { type: "string", default: "0" },
    mode: { type: "string", default: "64" },
    only: { type: "string" },
    "at-most": { type: "string", default: "20" },
  },
});

async function main(): Promise<number> {
  const oracle = new Oracle(process.cwd());
  const mode = values.mode === "32" ? 32 : 64;
  if (mode === 32 && !oracle.cpu.compatibility) throw new NoOracle("the host lets no program run 32-bit code");
  const single = values.case !== undefined;
  const started = performance.now();
  const summary = await oracle.run({
    seed: Number(values.seed),
    first: Number(single ? values.case : values.first),
    count: single ? 1 : Number(values.cases),
    mode,
    ...(values.only === undefined ? {} : { only: new RegExp(values.only) }),
    atMost: Number(values["at-most"]),
    ...(single ? { onCase: (difference) => console.log(describe(difference)) } : {}),
  });
  const seconds = (performance.now() - started) / 1000;
  for (const difference of summary.differences.slice(0, Number(values["at-most"])))
    console.log(line(difference, values.only));
  const left = [...summary.excluded].map(([name, count]) => `${name} ${count}`).join(", ");
  console.log(
    `${oracle.cpu.vendor}, ${mode}-bit: ${summary.compared} cases compared, ${summary.differences.length} differences, ` +
      `${seconds.toFixed(1)} s; not compared: ${left || "none"}`,
  );
  return summary.differences.length > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof NoOracle)) throw error;
  console.error(`oracle: ${error.message}`);
  process.exitCode = 1;
}
