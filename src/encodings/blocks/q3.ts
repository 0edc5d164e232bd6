/**
 * Search for the scale of a part whose codes stand for -half to half - 1, starting from the largest value's and then
 * changing one code at a time while the squared error, weighted by x^2, falls (ggml's make_q3_quants).
 */

import { clamp, nearestInteger, signedLargest } from './arithmetic.ts';

const { fround } = Math;

/** Writes the codes, 0 to 2 half - 1, and returns their scale. */
export function descendScale(x: Float32Array, codes: Uint8Array, half: number): number {
  const n = x.length;
  const largest = signedLargest(x);
  codes.fill(0);
  if (Math.abs(largest) < fround(1e-15)) return 0;
  const perUnit = fround(-half / largest);
  const levels = new Int8Array(n);
  let sumXL = 0;
  let sumLL = 0;
  const cube = (i: number) => fround(fround(x[i] * x[i]) * x[i]);
  const square = (i: number, l: number) => fround(fround(fround(x[i] * x[i]) * l) * l);
  for (let i = 0; i < n; i++) {
    levels[i] = clamp(nearestInteger(fround(perUnit * x[i])), -half, half - 1);
    sumXL = fround(sumXL + fround(cube(i) * levels[i]));
    sumLL = fround(sumLL + square(i, levels[i]));
  }
  for (let round = 0; round < 5 && improve(); round++);
  for (let i = 0; i < n; i++) codes[i] = levels[i] + half;
  return sumLL > 0 ? fround(sumXL / sumLL) : 0;

  function improve(): boolean {
    let changed = false;
    for (let i = 0; i < n; i++) {
      let restXL = fround(sumXL - fround(cube(i) * levels[i]));
      if (!(restXL > 0)) continue;
      let restLL = fround(sumLL - square(i, levels[i]));
      const l = clamp(nearestInteger(fround(fround(x[i] * restLL) / restXL)), -half, half - 1);
      if (l === levels[i]) continue;
      restXL = fround(restXL + fround(cube(i) * l));
      restLL = fround(restLL + square(i, l));
      const better = fround(fround(restXL * restXL) * sumLL) > fround(fround(sumXL * sumXL) * restLL);
      if (restLL > 0 && better) {
        levels[i] = l;
        sumXL = restXL;
        sumLL = restLL;
        changed = true;
      }
    }
    return changed;
  }
}
