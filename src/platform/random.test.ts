import { expect, it } from "vitest";
import { RandomStream } from "./random.js";

const draw = (stream: RandomStream): bigint[] => Array.from({ length: 4 }, () => stream.next64());

it("repeats with its seed, and streams do not move each other", () => {
  expect(draw(new RandomStream(0n, "seam"))).toEqual(draw(new RandomStream(0n, "seam")));
  expect(draw(new RandomStream(0n, "seam"))).not.toEqual(draw(new RandomStream(1n, "seam")));
  expect(draw(new RandomStream(0n, "seam"))).not.toEqual(draw(new RandomStream(0n, "rdrand")));
});

it("goes on from a saved state", () => {
  const stream = new RandomStream(9n, "seam");
  draw(stream);
  const copy = new RandomStream(0n, "x");
  copy.state = stream.state;
  expect(draw(copy)).toEqual(draw(stream));
});

it("covers its 64 bits", () => {
  const stream = new RandomStream(0n, "seam");
  let any = 0n;
  let all = (1n << 64n) - 1n;
  for (let i = 0; i < 64; i++) {
    const value = stream.next64();
    any |= value;
    all &= value;
  }
  expect(any).toBe((1n << 64n) - 1n);
  expect(all).toBe(0n);
});
