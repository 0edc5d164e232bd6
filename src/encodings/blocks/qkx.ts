/**
 * Search for the scale and the minimum of a part whose codes run from 0 to `top`: w = scale * code - minimum, with a
 * minimum of at least 0. For each of several spans codes are chosen, and the best scale and minimum for those codes
 * computed by weighted least squares; what loses least is kept (ggml's make_qkx2_quants and make_qkx3_quants).
 */

import { clamp, nearestInteger } from './arithmetic.ts';

const { fround } = Math;

export interface SpanSearch {
  readonly top: number;
  /** Spans tried: top + first + step * i codes over the range, i from 0 to `steps`. */
  readonly first: number;
  readonly step: number;
  readonly steps: number;
  /** Loss is the weighted sum of absolute rather than of squared errors. */
  readonly absolute: boolean;
}

export interface Span {
  readonly scale: number;
  readonly minimum: number;
}

/** The search that ggml makes where importance is known. */
export const importanceSpans = (top: number): SpanSearch => ({
  top,
  first: fround(-0.9),
  step: fround(0.05),
  steps: 36,
  absolute: false,
});

/** Writes the codes that belong to the result. */
export function searchSpan(
  x: Float32Array,
  weights: Float32Array,
  codes: Uint8Array,
  { top, first, step, steps, absolute }: SpanSearch,
): Span {
  const n = x.length;
  let low = x[0];
  let high = x[0];
  let sumW = 0;
  let sumX = 0;
  for (let i = 0; i < n; i++) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
    sumW = fround(sumW + weights[i]);
    sumX = fround(sumX + fround(weights[i] * x[i]));
  }
  if (low > 0) low = 0;
  if (high <= low) {
    codes.fill(0);
    return { scale: 0, minimum: -low };
  }
  const tried = new Uint8Array(n);
  choose(fround(top / fround(high - low)));
  codes.set(tried);
  let scale = fround(1 / fround(top / fround(high - low)));
  let least = loss(scale, low);
  for (let i = 0; i <= steps; i++) {
    choose(fround(fround(fround(first + fround(step * i)) + top) / fround(high - low)));
    const found = leastSquares();
    if (!found) continue;
    const error = loss(found.scale, found.low);
    if (error < least) {
      codes.set(tried);
      least = error;
      ({ scale, low } = found);
    }
  }
  return { scale, minimum: -low };

  function choose(perUnit: number): void {
    for (let i = 0; i < n; i++) {
      tried[i] = clamp(nearestInteger(fround(perUnit * fround(x[i] - low))), 0, top);
    }
  }

  function loss(scale: number, low: number): number {
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const error = fround(fround(fround(scale * tried[i]) + low) - x[i]);
      sum = fround(sum + fround(weights[i] * (absolute ? Math.abs(error) : fround(error * error))));
    }
    return sum;
  }

  function leastSquares(): { readonly scale: number; readonly low: number } | undefined {
    let sumL = 0;
    let sumLL = 0;
    let sumXL = 0;
    for (let i = 0; i < n; i++) {
      const weighted = fround(weights[i] * tried[i]);
      sumL = fround(sumL + weighted);
      sumLL = fround(sumLL + fround(weighted * tried[i]));
      sumXL = fround(sumXL + fround(weighted * x[i]));
    }
    const determinant = fround(fround(sumW * sumLL) - fround(sumL * sumL));
    if (!(determinant > 0)) return undefined;
    const low = fround(fround(fround(sumLL * sumX) - fround(sumL * sumXL)) / determinant);
    if (low > 0) return { scale: fround(sumXL / sumLL), low: 0 };
    return { scale: fround(fround(fround(sumW * sumXL) - fround(sumX * sumL)) / determinant), low };
  }
}
