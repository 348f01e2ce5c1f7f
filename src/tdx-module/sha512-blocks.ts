import { type I64, i32, load, store } from "../wasm/expression.js";
import type { Local } from "../wasm/function.js";
import { ModuleBuilder } from "../wasm/module.js";

/**
 * The block function of SHA-512 and SHA-384 (FIPS 180-4), as WebAssembly: a TD's initial memory goes through it at launch,
 * block by block, and 64-bit arithmetic in JavaScript would take most of the start-up time.
 */

const ROUNDS = 80;
const WORDS = 8;
const BLOCK = 128;
const AT = { STATE: 0, SCHEDULE: 256, CONSTANTS: 1024, DATA: 2048 } as const;
const PAGE = 0x1_0000;
const ROOM = Math.floor((PAGE - AT.DATA) / BLOCK);

/** floor(cube root of n). */
function cubeRoot(n: bigint): bigint {
  let x = 1n << BigInt(Math.ceil(n.toString(2).length / 3));
  for (;;) {
    const next = (2n * x + n / (x * x)) / 3n;
    if (next >= x) return x;
    x = next;
  }
}

/** Round constants: 64 bits of the fractions of the cube roots of the first 80 primes. */
function roundConstants(): bigint[] {
  const constants: bigint[] = [];
  for (let n = 2; constants.length < ROUNDS; n++) {
    let prime = true;
    for (let d = 2; d * d <= n && prime; d++) prime = n % d !== 0;
    if (prime) constants.push(BigInt.asUintN(64, cubeRoot(BigInt(n) << 192n)));
  }
  return constants;
}

/** Bytes of a 64-bit word in the other order. */
function swap(value: I64): I64 {
  const pairs = (mask: bigint, shift: bigint, of: I64): I64 => of.and(mask).shl(shift).or(of.shrU(shift).and(mask));
  const halves = value.rotl(32n);
  return pairs(0x00ff_00ff_00ff_00ffn, 8n, pairs(0x0000_ffff_0000_ffffn, 16n, halves));
}

const xor3 = (a: I64, b: I64, c: I64): I64 => a.xor(b).xor(c);

function generate(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder({ shared: false, initialPages: 1, maximumPages: 1 });
  const compress = module.declare(["i32"], null);
  module.define(compress, (f) => {
    const blocks = f.parameter(0, "i32");
    const data = f.local("i32");
    const n = f.local("i32");
    const v = Array.from({ length: WORDS }, () => f.local("i64"));
    const [a, b, c, d, e, g, h, k] = v as [
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
      Local<"i64">,
    ];
    const t = f.local("i64");
    const u = f.local("i64");
    const schedule = (back: number): I64 => load.i64(n.get, AT.SCHEDULE - back * 8);
    f.set(data, i32(AT.DATA));
    f.block((done) => {
      f.loop((again) => {
        f.brIf(done, blocks.get.eqz());
        f.set(n, i32(0));
        f.loop((next) => {
          f.set(t, load.i64(data.get.add(n.get)));
          f.emit(store.i64(n.get, swap(t.get), AT.SCHEDULE));
          f.set(n, n.get.add(8));
          f.brIf(next, n.get.ltU(BLOCK));
        });
        f.loop((next) => {
          f.set(t, schedule(2));
          f.set(u, schedule(15));
          const s1 = xor3(t.get.rotr(19n), t.get.rotr(61n), t.get.shrU(6n));
          const s0 = xor3(u.get.rotr(1n), u.get.rotr(8n), u.get.shrU(7n));
          f.emit(store.i64(n.get, s1.add(schedule(7)).add(s0).add(schedule(16)), AT.SCHEDULE));
          f.set(n, n.get.add(8));
          f.brIf(next, n.get.ltU(ROUNDS * 8));
        });
        v.forEach((word, i) => {
          f.set(word, load.i64(i32(AT.STATE + i * 8)));
        });
        f.set(n, i32(0));
        f.loop((next) => {
          const sum1 = xor3(e.get.rotr(14n), e.get.rotr(18n), e.get.rotr(41n));
          const choose = e.get.and(g.get).xor(e.get.not().and(h.get));
          f.set(t, k.get.add(sum1).add(choose).add(load.i64(n.get, AT.CONSTANTS)).add(load.i64(n.get, AT.SCHEDULE)));
          const sum0 = xor3(a.get.rotr(28n), a.get.rotr(34n), a.get.rotr(39n));
          const majority = xor3(a.get.and(b.get), a.get.and(c.get), b.get.and(c.get));
          f.set(u, sum0.add(majority));
          f.set(k, h.get);
          f.set(h, g.get);
          f.set(g, e.get);
          f.set(e, d.get.add(t.get));
          f.set(d, c.get);
          f.set(c, b.get);
          f.set(b, a.get);
          f.set(a, t.get.add(u.get));
          f.set(n, n.get.add(8));
          f.brIf(next, n.get.ltU(ROUNDS * 8));
        });
        v.forEach((word, i) => {
          f.emit(store.i64(i32(AT.STATE + i * 8), load.i64(i32(AT.STATE + i * 8)).add(word.get)));
        });
        f.set(data, data.get.add(BLOCK));
        f.set(blocks, blocks.get.sub(1));
        f.br(again);
      });
    });
  });
  module.export("compress", compress);
  return module.encode();
}

/** SHA-512's block function on a state of eight 64-bit words. */
export class Sha512Blocks {
  /** The state; the caller puts it in and takes it out. */
  readonly state: BigUint64Array;
  readonly #bytes: Uint8Array;
  readonly #compress: (blocks: number) => void;

  constructor() {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    this.state = new BigUint64Array(memory.buffer, AT.STATE, WORDS);
    this.#bytes = new Uint8Array(memory.buffer);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(generate()), { m: { m: memory } });
    this.#compress = instance.exports.compress as (blocks: number) => void;
    new BigUint64Array(memory.buffer, AT.CONSTANTS, ROUNDS).set(roundConstants());
  }

  /** Takes in whole blocks of 128 bytes. */
  update(data: Uint8Array): void {
    for (let at = 0; at < data.length; at += ROOM * BLOCK) {
      const part = data.subarray(at, at + ROOM * BLOCK);
      this.#bytes.set(part, AT.DATA);
      this.#compress(part.length / BLOCK);
    }
  }
}
