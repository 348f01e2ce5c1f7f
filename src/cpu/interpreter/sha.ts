import { type I32, i32, type V128 } from "../../wasm/expression.js";
import type { FunctionBuilder, Local } from "../../wasm/function.js";
import type { ModuleBuilder } from "../../wasm/module.js";
import type { VectorRuntime } from "../isa/vector-runtime.js";

const rotateRight = (x: I32, n: number): I32 => x.rotl(32 - n);
const choose = (x: I32, y: I32, z: I32): I32 => x.and(y.xor(z)).xor(z);
const majority = (x: I32, y: I32, z: I32): I32 => x.and(y.or(z)).or(y.and(z));

/** Round constants of SHA-1 (FIPS 180-4, 4.2.1), one for each of the four functions. */
const SHA1_K = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6] as const;
const SHA1_MAJORITY = 2;

const word = (f: FunctionBuilder, value: I32): Local<"i32"> => {
  const local = f.local("i32");
  f.set(local, value);
  return local;
};
const vector = (words: readonly I32[]): V128 => {
  const [first, ...rest] = words as [I32, ...I32[]];
  return rest.reduce((value, next, n) => value.withLane32(n + 1, next), first.splat32x4());
};

/** Words are numbered downwards: A and W0 are in lane 3. E has been added to W0. */
function defineSha1Rounds(module: ModuleBuilder, runtime: VectorRuntime): void {
  module.define(runtime.sha1Rounds, (f) => {
    const state = f.parameter(0, "v128").get;
    const message = f.parameter(1, "v128").get;
    const choice = f.tmp(f.parameter(2, "i32").get.and(3));
    const constant = f.tmp(
      choice
        .and(2)
        .select(
          choice.and(1).select(i32(SHA1_K[3]), i32(SHA1_K[2])),
          choice.and(1).select(i32(SHA1_K[1]), i32(SHA1_K[0])),
        ),
    );
    const a = word(f, state.lane32(3));
    const b = word(f, state.lane32(2));
    const c = word(f, state.lane32(1));
    const d = word(f, state.lane32(0));
    const e = f.local("i32");
    for (let round = 0; round < 4; round++) {
      const mixed = choice
        .eqz()
        .select(
          choose(b.get, c.get, d.get),
          choice.eq(SHA1_MAJORITY).select(majority(b.get, c.get, d.get), b.get.xor(c.get).xor(d.get)),
        );
      const next = f.tmp(
        mixed
          .add(a.get.rotl(5))
          .add(message.lane32(3 - round))
          .add(e.get)
          .add(constant),
      );
      f.set(e, d.get);
      f.set(d, c.get);
      f.set(c, b.get.rotl(30));
      f.set(b, a.get);
      f.set(a, next);
    }
    f.return(vector([d.get, c.get, b.get, a.get]));
  });
}

function defineSha256Rounds(module: ModuleBuilder, runtime: VectorRuntime): void {
  module.define(runtime.sha256Rounds, (f) => {
    const cdgh = f.parameter(0, "v128").get;
    const abef = f.parameter(1, "v128").get;
    const message = f.parameter(2, "v128").get;
    const a = word(f, abef.lane32(3));
    const b = word(f, abef.lane32(2));
    const c = word(f, cdgh.lane32(3));
    const d = word(f, cdgh.lane32(2));
    const e = word(f, abef.lane32(1));
    const g = word(f, cdgh.lane32(1));
    const h = word(f, cdgh.lane32(0));
    const ff = word(f, abef.lane32(0));
    for (let round = 0; round < 2; round++) {
      const sum1 = rotateRight(e.get, 6).xor(rotateRight(e.get, 11)).xor(rotateRight(e.get, 25));
      const sum0 = rotateRight(a.get, 2).xor(rotateRight(a.get, 13)).xor(rotateRight(a.get, 22));
      const first = f.tmp(
        h.get
          .add(sum1)
          .add(choose(e.get, ff.get, g.get))
          .add(message.lane32(round)),
      );
      const second = f.tmp(sum0.add(majority(a.get, b.get, c.get)));
      f.set(h, g.get);
      f.set(g, ff.get);
      f.set(ff, e.get);
      f.set(e, d.get.add(first));
      f.set(d, c.get);
      f.set(c, b.get);
      f.set(b, a.get);
      f.set(a, first.add(second));
    }
    f.return(vector([ff.get, e.get, b.get, a.get]));
  });
}

export function defineSha(module: ModuleBuilder, runtime: VectorRuntime): void {
  defineSha1Rounds(module, runtime);
  defineSha256Rounds(module, runtime);
}
