/**
 * The 16 unevenly spaced levels of IQ4_NL and IQ4_XS, denser around 0, and the search for the scale of a part of such
 * codes: weighted least squares over 16 spans.
 */

import { signedLargest } from './arithmetic.ts';

const { fround } = Math;

export const levels = Float32Array.of(
  -127,
  -104,
  -83,
  -65,
  -49,
  -35,
  -22,
  -10,
  1,
  13,
  25,
  38,
  53,
  69,
  89,
  113,
);
/** Spans tried on either side of the first, a level apart. */
const tries = 7;

export function searchLevels(x: Float32Array, weights: Float32Array): number {
  const largest = signedLargest(x);
  if (Math.abs(largest) < fround(1e-15)) return 0;
  let sumXQ = 0;
  let sumQQ = 0;
  tally(fround(1 / fround(-largest / levels[0])));
  let scale = sumQQ > 0 ? fround(sumXQ / sumQQ) : 0;
  let gain = fround(scale * sumXQ);
  for (let i = -tries; i <= tries; i++) {
    tally(fround((i + levels[0]) / largest));
    if (sumQQ > 0 && fround(sumXQ * sumXQ) > fround(gain * sumQQ)) {
      scale = fround(sumXQ / sumQQ);
      gain = fround(scale * sumXQ);
    }
  }
  return scale;

  function tally(perUnit: number): void {
    sumXQ = 0;
    sumQQ = 0;
    for (let i = 0; i < x.length; i++) {
      const q = levels[nearestLevel(fround(perUnit * x[i]))];
      const weighted = fround(weights[i] * q);
      sumXQ = fround(sumXQ + fround(weighted * x[i]));
      sumQQ = fround(sumQQ + fround(weighted * q));
    }
  }
}

/** The code of the level nearest to a value, the upper one of two. */
export function nearestLevel(value: number): number {
  let code = 0;
  for (let step = 8; step > 0; step >>= 1) {
    if (2 * value >= levels[code + step - 1] + levels[code + step]) code += step;
  }
  return code;
}
