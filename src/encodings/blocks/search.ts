/**
 * The searches that reference quantizers make in every part of a block: which there are, and the plain form of all of
 * them, one part after the other. The same in WebAssembly, four parts abreast: kernels/blocks.ts.
 */

import { sumOf, sumOfSquares } from './arithmetic.ts';
import { searchLevels } from './levels.ts';
import { descendScale } from './q3.ts';
import type { SpanSearch } from './qkx.ts';
import { searchSpan } from './qkx.ts';
import { searchScale } from './qx.ts';

const { fround } = Math;

/**
 * How much the squared error of a weight x counts: its size, its size and the part's root mean square, its square,
 * its column's importance, or importance * sqrt(spread + x^2).
 */
export type ErrorWeight = 'size' | 'size and mean' | 'square' | 'importance' | 'importance and size';

export type Search = {
  readonly weight: ErrorWeight;
  /** The spread is this times the mean square of the block, or of the whole row. */
  readonly spread?: { readonly factor: 1 | 2; readonly of: 'block' | 'row' };
} & (
  | ({ readonly kind: 'span' } & SpanSearch)
  | { readonly kind: 'scale' | 'descent'; readonly half: number }
  | { readonly kind: 'levels' }
);

export interface Found {
  /** Of each part. */
  readonly scales: Float32Array;
  readonly minima: Float32Array;
  /** The sum of its error weights. */
  readonly totals: Float32Array;
  /** Of each weight; none from a search for levels. */
  readonly codes: Uint8Array;
}

/** What the importance of squared errors depends on. */
export interface Weighting {
  /** Of each weight; where the search needs it. */
  readonly importance?: Float32Array | undefined;
  readonly spread: number;
}

export const noneFound = (parts: number, weights: number): Found => ({
  scales: new Float32Array(parts),
  minima: new Float32Array(parts),
  totals: new Float32Array(parts),
  codes: new Uint8Array(weights),
});

/** The spread that a block's weights have, or its row's. */
export function spreadOf(values: Float32Array, { spread }: Search): number {
  return spread ? fround((spread.factor * sumOfSquares(values)) / values.length) : 0;
}

/** Searches every part of a block. */
export function searchBlock(search: Search, x: Float32Array, part: number, weighting: Weighting): Found {
  const found = noneFound(x.length / part, x.length);
  const weights = new Float32Array(part);
  for (let p = 0; p < found.scales.length; p++) {
    const [from, to] = [p * part, (p + 1) * part];
    const values = x.subarray(from, to);
    const codes = found.codes.subarray(from, to);
    weigh(search.weight, values, weighting.importance?.subarray(from, to), weighting.spread, weights);
    found.totals[p] = sumOf(weights);
    if (search.kind === 'span') {
      const { scale, minimum } = searchSpan(values, weights, codes, search);
      found.scales[p] = scale;
      found.minima[p] = minimum;
    } else if (search.kind === 'scale') found.scales[p] = searchScale(values, weights, codes, search.half);
    else if (search.kind === 'descent') found.scales[p] = descendScale(values, codes, search.half);
    else found.scales[p] = searchLevels(values, weights);
  }
  return found;
}

function weigh(
  rule: ErrorWeight,
  x: Float32Array,
  importance: Float32Array | undefined,
  spread: number,
  weights: Float32Array,
): void {
  const mean = rule === 'size and mean' ? fround(Math.sqrt(fround(sumOfSquares(x) / x.length))) : 0;
  for (let i = 0; i < x.length; i++) {
    if (rule === 'square') weights[i] = x[i] * x[i];
    else if (rule === 'importance') weights[i] = importance![i];
    else if (rule === 'importance and size') {
      weights[i] = importance![i] * fround(Math.sqrt(fround(spread + fround(x[i] * x[i]))));
    } else weights[i] = mean + Math.abs(x[i]);
  }
}
