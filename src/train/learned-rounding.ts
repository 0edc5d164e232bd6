/**
 * A matrix whose rounding is trained: an offset V of every weight, in steps of the grid, and factors alpha and beta of
 * the two ends of every group's range (SignRound, arXiv:2309.05516):
 *   W' = s (clip(round(W / s + V) + z, 0, top) - z),   s = (alpha high + beta low) / top,   z = round(beta low / s).
 * Rounding passes gradients on as if it were not there, and every number moves by its rate against the sign of its
 * gradient (kernels/rounding.ts). `low` and `high` are of the grid that plain rounding takes.
 */

import { scaleForm } from '../encodings/grid.ts';
import { grouped, groupsOf } from '../encodings/grouped.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import type { Matrix } from '../contract/statistic.ts';
import type { MovingMatrix } from './block-descent.ts';
import type { GridChoice } from '../rounding/tiles.ts';
import { groupAt, groupLength } from '../rounding/tiles.ts';

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

/** Floats that the kernel needs of a matrix: its rows begin at whole vectors. */
export const roomFor = ({ rows, columns }: Pick<Matrix, 'rows' | 'columns'>): number =>
  rows * pitchOf(columns);

const pitchOf = (columns: number) => Math.ceil(columns / 4) * 4;

/**
 * @param flow room for the matrix' weights in the kernels' memory, which others may use between two steps
 * @returns what is valid as long as the kernels are the caller's
 */
export function roundedMatrix(kernels: Kernels, flow: Area, start: Start): RoundedMatrix {
  const { weight, choice, minmax } = start;
  const { rows, columns } = weight;
  const [length, pitch, top] = [groupLength(choice, columns), pitchOf(columns), 2 ** choice.bits - 1];
  const { weights, offsets, scales, zeros, ends } = place(kernels, start, { pitch, top });
  const values = new Float32Array(rows * columns);
  const moving = minmax ? (choice.symmetric ? 1 : 2) : 0;
  const fixed = [flow, weights, offsets].map(({ at }) => at);
  const ofGroups = [scales, zeros, ends].map(({ at }) => at);
  const step = (gradient: Float32Array, { offsets: rate, ranges }: Rates): void => {
    copyRows({ from: gradient, width: columns }, { to: kernels.floats(flow), width: pitch }, rows);
    const sizes = [columns, pitch, length];
    const rest = [top, moving, scaleForm(choice), rate, ranges];
    kernels.run('stepRounding', rows, 8, ...fixed, ...sizes, ...ofGroups, ...rest);
    copyRows({ from: kernels.floats(flow), width: pitch }, { to: values, width: columns }, rows);
  };
  // Nothing moves, and weights are written all the same.
  step(values, { offsets: 0, ranges: 0 });
  return {
    values,
    step,
    finished() {
      const [steps, middles] = [scales, zeros].map((area) => kernels.floats(area).slice());
      const codes = new Uint8Array(values.length);
      for (let at = 0; at < codes.length; at++) {
        const group = groupAt(at, columns, length);
        codes[at] = Math.round(values[at] / steps[group]) + middles[group];
      }
      const { bits, group, symmetric } = choice;
      const stored = symmetric ? undefined : Uint8Array.from(middles);
      return grouped({ rows, columns, bits, group, codes, scales: steps, zeros: stored });
    },
  };
}

/** What a step works on, as kernels/rounding.ts has it. */
function place(
  kernels: Kernels,
  { weight, choice, scales: given, zeros: points }: Start,
  { pitch, top }: { readonly pitch: number; readonly top: number },
) {
  const { rows, columns, values } = weight;
  const groups = rows * groupsOf({ columns, group: choice.group });
  const middle = 2 ** (choice.bits - 1);
  const [weights, offsets] = [1, 2].map(() => kernels.reserve(4 * rows * pitch));
  const [scales, zeros, ends] = [4, 4, 32].map((bytes) => kernels.reserve(bytes * groups));
  copyRows({ from: values, width: columns }, { to: kernels.floats(weights).fill(0), width: pitch }, rows);
  // The half that makes rounding of floor.
  kernels.floats(offsets).fill(0.5);
  kernels.floats(scales).set(given);
  kernels.floats(zeros).set(points ?? new Uint8Array(groups).fill(middle));
  const own = new Float64Array(4 * groups).fill(1);
  for (const [group, scale] of given.entries()) {
    const zero = points?.[group] ?? middle;
    own.set([scale * zero, scale * (top - zero)], 4 * group);
  }
  kernels.bytes(ends).set(new Uint8Array(own.buffer));
  return { weights, offsets, scales, zeros, ends };
}

interface Source {
  readonly from: Float32Array;
  readonly width: number;
}

interface Target {
  readonly to: Float32Array;
  readonly width: number;
}

/** Rows of one width into those of another. */
function copyRows({ from, width }: Source, target: Target, rows: number): void {
  if (width === target.width) return target.to.set(from.subarray(0, rows * width));
  const count = Math.min(width, target.width);
  for (let row = 0; row < rows; row++)
    target.to.set(from.subarray(row * width, row * width + count), row * target.width);
}
