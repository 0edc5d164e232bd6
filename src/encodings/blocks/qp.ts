/**
 * Search for whole numbers from 0 to `top` and a scale that stand for numbers not below 0, such as the scales of a
 * block: the least weighted squared error over nine spans, then one number at a time (ggml's make_qp_quants).
 */

import { nearestInteger } from './arithmetic.ts';

const { fround } = Math;

/** Writes the numbers and returns their scale. */
export function searchPositive(
  x: Float32Array,
  weights: Float32Array,
  numbers: Uint8Array,
  top: number,
): number {
  const n = x.length;
  const high = x.reduce((most, each) => Math.max(most, each), 0);
  if (high < fround(1e-15)) {
    numbers.fill(0);
    return 0;
  }
  let perUnit = fround(top / high);
  let least = loss(perUnit);
  for (let i = -4; i <= 4; i++) {
    if (i === 0) continue;
    const candidate = fround(fround(fround(fround(0.1) * i) + top) / high);
    const error = loss(candidate);
    if (error < least) {
      least = error;
      perUnit = candidate;
    }
  }
  let sumXL = 0;
  let sumLL = 0;
  for (let i = 0; i < n; i++) {
    numbers[i] = Math.min(top, nearestInteger(fround(perUnit * x[i])));
    sumXL = fround(sumXL + fround(fround(weights[i] * x[i]) * numbers[i]));
    sumLL = fround(sumLL + fround(fround(weights[i] * numbers[i]) * numbers[i]));
  }
  for (let round = 0; round < 5 && improve(); round++);
  return sumLL > 0 ? fround(sumXL / sumLL) : 0;

  function loss(candidate: number): number {
    const scale = fround(1 / candidate);
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const number = Math.min(top, nearestInteger(fround(candidate * x[i])));
      const error = fround(x[i] - fround(scale * number));
      sum = fround(sum + fround(fround(weights[i] * error) * error));
    }
    return sum;
  }

  function improve(): boolean {
    let changed = false;
    for (let i = 0; i < n; i++) {
      const weightedX = fround(weights[i] * x[i]);
      const term = (number: number) => fround(fround(weights[i] * number) * number);
      let restXL = fround(sumXL - fround(weightedX * numbers[i]));
      let restLL = fround(sumLL - term(numbers[i]));
      if (!(restXL > 0 && restLL > 0)) continue;
      const number = Math.min(top, nearestInteger(fround(fround(x[i] * restLL) / restXL)));
      if (number === numbers[i]) continue;
      restXL = fround(restXL + fround(weightedX * number));
      restLL = fround(restLL + term(number));
      if (fround(fround(restXL * restXL) * sumLL) > fround(fround(sumXL * sumXL) * restLL)) {
        numbers[i] = number;
        sumXL = restXL;
        sumLL = restLL;
        changed = true;
      }
    }
    return changed;
  }
}
