/** Elementary functions in binary fixed point on big integers; errors are a few units of the last of 320 places. */

export const PLACES = 320;
const SHIFT = BigInt(PLACES);
export const ONE = 1n << SHIFT;

const multiply = (a: bigint, b: bigint): bigint => (a * b) >> SHIFT;
export const divide = (a: bigint, b: bigint): bigint => (a << SHIFT) / b;

/** Sum of a series whose next term is made from the last one and its number; ends when terms vanish. */
function series(first: bigint, next: (term: bigint, n: bigint) => bigint): bigint {
  let sum = 0n;
  let term = first;
  for (let n = 1n; term !== 0n && term !== -1n; n++) {
    sum += term;
    term = next(term, n);
  }
  return sum;
}

/** |r| at most 1. */
export function sine(r: bigint): bigint {
  const square = multiply(r, r);
  return series(r, (term, n) => -multiply(term, square) / (2n * n * (2n * n + 1n)));
}
export function cosine(r: bigint): bigint {
  const square = multiply(r, r);
  return series(ONE, (term, n) => -multiply(term, square) / ((2n * n - 1n) * (2n * n)));
}

/** e^x - 1 for |x| at most 1. */
export function exponentialLessOne(x: bigint): bigint {
  return series(x, (term, n) => multiply(term, x) / (n + 1n));
}

/** For 0 <= q <= 1, by Euler's series, whose terms at least halve. */
export function arctangent(q: bigint): bigint {
  const square = multiply(q, q);
  const ratio = divide(square, ONE + square);
  return series(divide(q, ONE + square), (term, n) => (multiply(term, ratio) * 2n * n) / (2n * n + 1n));
}

/** ln((1 + z) / (1 - z)) for small |z|. */
function logarithmOfRatio(z: bigint): bigint {
  const square = multiply(z, z);
  let power = z;
  return (
    2n *
    series(z, (_, n) => {
      power = multiply(power, square);
      return power / (2n * n + 1n);
    })
  );
}

/** ln m for m between 1/2 and 2. */
export const logarithm = (m: bigint): bigint => logarithmOfRatio(divide(m - ONE, m + ONE));

export const PI = 4n * arctangent(ONE);
export const LN2 = logarithmOfRatio(ONE / 3n);
