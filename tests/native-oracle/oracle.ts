import { ARENA, CASE, RESULT } from "./arena.js";
import { differences } from "./compare.js";
import { type Ending, Machine } from "./emulated.js";
import { exclusionOf, ignoredOf } from "./exclusions.js";
import { type Generated, Generator } from "./generate.js";
import { compileRunner, identify, type NativeCpu, NativeRunner } from "./native.js";
import { Random } from "./random.js";
import { triedRows } from "./rows.js";

const BATCH = 1024;

/** A case in which our machine and the real CPU differ. */
export interface Difference {
  readonly one: Generated;
  readonly record: Uint8Array;
  readonly native: Uint8Array;
  readonly ours: Uint8Array;
  readonly lines: readonly string[];
}

export interface Summary {
  readonly compared: number;
  readonly excluded: ReadonlyMap<string, number>;
  readonly differences: readonly Difference[];
}

export interface Options {
  readonly seed: number;
  readonly first: number;
  readonly count: number;
  readonly mode: 64 | 32;
  /** Only rows whose mnemonic matches. */
  readonly only?: RegExp;
  /** Stop when so many differences have been found. */
  readonly atMost?: number;
  /** Called with every compared case. */
  readonly onCase?: (difference: Difference) => void;
}

/** Contents of the data pages and of the read-only page. */
function contents(seed: number): Uint8Array {
  const bytes = new Uint8Array(ARENA.DATA_SIZE + ARENA.READ_ONLY_SIZE);
  new Random(seed, -1).fill(bytes);
  return bytes;
}

/** Both machines, ready for any number of runs. */
export class Oracle {
  readonly cpu: NativeCpu;
  readonly #program: string;

  /** @param root folder of the clone. @throws NoOracle if the real CPU cannot be asked here. */
  constructor(root: string) {
    this.#program = compileRunner(root);
    this.cpu = identify(this.#program);
  }

  async run(options: Options): Promise<Summary> {
    const { seed, first, count, mode } = options;
    const rows = triedRows(mode, options.only);
    const generator = new Generator(rows, seed, mode);
    const data = contents(seed);
    const machine = new Machine(data);
    const runner = new NativeRunner(this.#program, data);
    const excluded = new Map<string, number>();
    const found: Difference[] = [];
    let compared = 0;
    const records = new Uint8Array(BATCH * CASE.SIZE);
    const ours = new Uint8Array(BATCH * RESULT.SIZE);
    try {
      for (let index = first; index < first + count; ) {
        const cases: Generated[] = [];
        for (; index < first + count && cases.length < BATCH; index++) {
          const record = records.subarray(cases.length * CASE.SIZE, (cases.length + 1) * CASE.SIZE);
          const one = generator.write(index, record);
          const exclusion = exclusionOf(one, record, this.cpu);
          if (exclusion) excluded.set(exclusion.name, (excluded.get(exclusion.name) ?? 0) + 1);
          else cases.push(one);
        }
        if (cases.length === 0) continue;
        const answer = runner.run(records, cases.length);
        const endings: Ending[] = cases.map((_, n) =>
          machine.run(
            records.subarray(n * CASE.SIZE, (n + 1) * CASE.SIZE),
            ours.subarray(n * RESULT.SIZE, (n + 1) * RESULT.SIZE),
          ),
        );
        const natives = await answer;
        cases.forEach((one, n) => {
          const record = records.subarray(n * CASE.SIZE, (n + 1) * CASE.SIZE);
          const native = natives.subarray(n * RESULT.SIZE, (n + 1) * RESULT.SIZE);
          const own = ours.subarray(n * RESULT.SIZE, (n + 1) * RESULT.SIZE);
          const lines = differences(one, record, native, own, endings[n] as Ending, ignoredOf(one, record, this.cpu));
          const difference = { one, record, native, ours: own, lines };
          options.onCase?.(difference);
          if (lines.length > 0)
            found.push({ ...difference, record: record.slice(), native: Buffer.from(native), ours: own.slice() });
        });
        compared += cases.length;
        if (found.length >= (options.atMost ?? Number.POSITIVE_INFINITY)) break;
      }
    } finally {
      runner.close();
    }
    return { compared, excluded, differences: found };
  }
}
