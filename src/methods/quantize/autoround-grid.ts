/**
 * A matrix whose rounding is trained: an offset V of every weight, in steps of the grid, and factors alpha and beta of
 * the two ends of every group's range (SignRound, arXiv:2309.05516):
 *   W' = s (clip(round(W / s + V) + z, 0, top) - z),   s = (alpha high + beta low) / top,   z = round(beta low / s).
 * Rounding passes gradients on as if it were not there, and every number moves by its rate against the sign of its
 * gradient. `low` and `high` are of the grid that plain rounding takes, where the authors' are the least and the
 * greatest weight.
 */

import { scaleRounding } from '../../encodings/grid.ts';
import { grouped, groupsOf } from '../../encodings/grouped.ts';
import type { Matrix } from '../contract.ts';
import type { MovingMatrix, Span } from './block-descent.ts';
import { spansOf } from './block-descent.ts';
import type { GridChoice } from './tiles.ts';
import { groupLength } from './tiles.ts';

export interface Start {
  readonly weight: Matrix;
  readonly choice: GridChoice;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups]; without them the middle code. */
  readonly zeros?: Uint8Array | undefined;
  /** Whether the ends of the ranges move, too. */
  readonly minmax: boolean;
}

export interface Rates {
  /** In steps of the grid. */
  readonly offsets: number;
  /** In shares of the ranges. */
  readonly ranges: number;
}

export interface RoundedMatrix extends MovingMatrix {
  /** @param gradient of the loss by `values`, in their order */
  step(gradient: Float32Array, rates: Rates): void;
}

export function roundedMatrix(start: Start): RoundedMatrix {
  const { weight, choice } = start;
  const { rows, columns } = weight;
  const length = groupLength(choice, columns);
  const perRow = groupsOf({ columns, group: choice.group });
  const state = stateOf(start, rows * perRow);
  const values = new Float32Array(rows * columns);
  const spans = () => spansOf(rows, columns, length);
  for (const span of spans()) spread(state, span, values);
  return {
    values,
    step(gradient, rates) {
      for (const span of spans()) {
        const slopes = stepOffsets(state, span, gradient, rates.offsets);
        if (start.minmax) stepRange(state, span.group, slopes, rates.ranges);
        spread(state, span, values);
      }
    },
    finished() {
      const { steps, zeros } = state;
      const codes = new Uint8Array(rows * columns);
      for (const { group, from, to } of spans())
        for (let at = from; at < to; at++) codes[at] = Math.round(values[at] / steps[group]) + zeros[group];
      const stored = choice.symmetric ? undefined : Uint8Array.from(zeros);
      const { bits, group } = choice;
      return grouped({ rows, columns, bits, group, codes, scales: Float32Array.from(steps), zeros: stored });
    },
  };
}

interface State {
  readonly weight: Float32Array;
  /** No offset is 0.5: the half that makes rounding of floor is among them. */
  readonly offsets: Float32Array;
  readonly symmetric: boolean;
  readonly top: number;
  /** Of every group: its range at the start, and the factors of its ends. */
  readonly low: Float64Array;
  readonly high: Float64Array;
  readonly beta: Float64Array;
  readonly alpha: Float64Array;
  /** Of every group, as the factors have them now. */
  readonly steps: Float64Array;
  readonly zeros: Float64Array;
  /** The nearest number that scales are stored as. */
  readonly representable: (scale: number) => number;
}

function stateOf({ weight, choice, scales, zeros }: Start, groups: number): State {
  const top = 2 ** choice.bits - 1;
  const middle = 2 ** (choice.bits - 1);
  const zeroOf = (group: number) => zeros?.[group] ?? middle;
  const each = (of: (group: number) => number) =>
    Float64Array.from({ length: groups }, (_, group) => of(group));
  return {
    weight: weight.values,
    offsets: new Float32Array(weight.values.length).fill(0.5),
    symmetric: choice.symmetric,
    top,
    low: each((group) => scales[group] * zeroOf(group)),
    high: each((group) => scales[group] * (top - zeroOf(group))),
    beta: each(() => 1),
    alpha: each(() => 1),
    steps: Float64Array.from(scales),
    zeros: each(zeroOf),
    representable: scaleRounding(choice),
  };
}

/** Writes the values that a group's codes stand for. */
function spread(
  { weight, offsets, steps, zeros, top }: State,
  { group, from, to }: Span,
  values: Float32Array,
) {
  const step = steps[group];
  const [least, most] = [0 - zeros[group], top - zeros[group]];
  for (let at = from; at < to; at++) {
    const free = Math.floor(weight[at] / step + offsets[at]);
    values[at] = Math.min(Math.max(free, least), most) * step;
  }
}

/** Gradients by a group's scale and by its zero point. */
interface Slopes {
  readonly toScale: number;
  readonly toZero: number;
}

/** @returns the group's own, before anything moved */
function stepOffsets(
  { weight, offsets, steps, zeros, top }: State,
  { group, from, to }: Span,
  gradient: Float32Array,
  rate: number,
): Slopes {
  const step = steps[group];
  const [least, most] = [0 - zeros[group], top - zeros[group]];
  let toScale = 0;
  let outside = 0;
  for (let at = from; at < to; at++) {
    const exact = weight[at] / step;
    const free = Math.floor(exact + offsets[at]);
    const slope = gradient[at];
    if (free < least || free > most) {
      toScale += slope * (free < 0 ? least : most);
      outside += slope;
    } else {
      toScale += slope * (free - exact);
      // Signs are as random as coins: no branch guesses them.
      offsets[at] -= rate * Math.sign(slope);
    }
  }
  return { toScale, toZero: -step * outside };
}

/** A middle that does not move leaves one factor for both ends. */
function stepRange(state: State, group: number, { toScale, toZero }: Slopes, rate: number): void {
  const { low, high, beta, alpha, steps, zeros, top, symmetric, representable } = state;
  const step = steps[group];
  if (symmetric) {
    alpha[group] -= rate * Math.sign(toScale);
    steps[group] = representable(Math.max((alpha[group] * (low[group] + high[group])) / top, 2 ** -24));
    return;
  }
  const toLow = toScale / top + toZero * (1 / step - (beta[group] * low[group]) / step ** 2 / top);
  const toHigh = toScale / top - (toZero * beta[group] * low[group]) / step ** 2 / top;
  beta[group] -= rate * Math.sign(toLow * low[group]);
  alpha[group] -= rate * Math.sign(toHigh * high[group]);
  const [start, end] = [beta[group] * low[group], alpha[group] * high[group]];
  steps[group] = representable(Math.max((start + end) / top, 2 ** -24));
  zeros[group] = Math.min(Math.max(Math.floor(start / steps[group] + 0.5), 0), top);
}
