/**
 * Search for the scale of a part whose codes stand for -half to half - 1: codes are chosen for 19 spans, and for each
 * the best scale computed by weighted least squares (ggml's make_qx_quants).
 */

import { clamp, nearestInteger, signedLargest } from './arithmetic.ts';

const { fround } = Math;

/**
 * Writes the codes, 0 to 2 half - 1, and returns their scale.
 */
export function searchScale(x: Float32Array, weights: Float32Array, codes: Uint8Array, half: number): number {
  const n = x.length;
  const largest = signedLargest(x);
  if (Math.abs(largest) < fround(1e-15)) {
    codes.fill(0);
    return 0;
  }
  let sumXL = 0;
  let sumLL = 0;
  let best = fround(-half / largest);
  tally(best);
  let scale = sumLL > 0 ? fround(sumXL / sumLL) : 0;
  let gain = fround(scale * sumXL);
  for (let i = -9; i <= 9; i++) {
    if (i === 0) continue;
    const perUnit = fround(-fround(half + fround(fround(0.1) * i)) / largest);
    tally(perUnit);
    if (sumLL > 0 && fround(sumXL * sumXL) > fround(gain * sumLL)) {
      best = perUnit;
      scale = fround(sumXL / sumLL);
      gain = fround(scale * sumXL);
    }
  }
  for (let i = 0; i < n; i++) codes[i] = half + level(i, best);
  return scale;

  function level(i: number, perUnit: number): number {
    return clamp(nearestInteger(fround(perUnit * x[i])), -half, half - 1);
  }

  function tally(perUnit: number): void {
    sumXL = 0;
    sumLL = 0;
    for (let i = 0; i < n; i++) {
      const l = level(i, perUnit);
      sumXL = fround(sumXL + fround(fround(weights[i] * x[i]) * l));
      sumLL = fround(sumLL + fround(fround(weights[i] * l) * l));
    }
  }
}
