/**
 * Grouped integers that are trained: every code has a latent number u that it is the nearest of, every scale a relative
 * change t,
 *   w = (clip(round(u)) - zero) scale (1 + t),
 * and rounding passes gradients on as if it were not there (straight-through: Bengio, Leonard and Courville 2013). A step
 * of Adam (Kingma and Ba 2015) goes once over a matrix: gradients of weights in, the next weights out.
 */

import { floatToHalf } from '../../base/half.ts';
import { stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { UnpackedGroups } from '../../encodings/grouped.ts';
import { ungrouped } from '../../encodings/grouped.ts';
import { pack } from '../../encodings/pack.ts';
import { restore } from '../../encodings/restore.ts';
import type { MovingMatrix, Span } from './block-descent.ts';
import { spansOf } from './block-descent.ts';

export interface Rates {
  /** In steps of the grid. */
  readonly codes: number;
  /** As shares of each scale. */
  readonly scales: number;
  /** Counted from 1. */
  readonly step: number;
}

export interface LatentMatrix extends MovingMatrix {
  /** @param gradient of the loss by `values`, in their order */
  step(gradient: Float32Array, rates: Rates): void;
}

const [beta1, beta2] = [0.9, 0.95];
/** Gradients of mean squares may be tiny: only a 0 is kept from dividing by itself. */
const epsilon = 1e-20;
/** How near a latent number may begin to where its code would be another. */
const edge = 0.49;

/**
 * Latent numbers begin where the weight itself lies, or as near to it as leaves the code what it is.
 * @param weight before it was compressed, row-major [rows, columns]
 * @returns undefined where the matrix is no grouped integers
 */
export function latentMatrix(compressed: Encoding, weight: Float32Array): LatentMatrix | undefined {
  const groups = ungrouped(compressed);
  if (!groups) return undefined;
  const { rows, columns, length } = groups;
  const [least, greatest] = codeRange(compressed, groups);
  const perRow = groups.scales.length / rows;
  const state: State = {
    ...groups,
    least,
    greatest,
    values: compressed.dense(),
    latents: latentsOf(groups, weight),
    first: new Float32Array(rows * columns),
    second: new Float32Array(rows * columns),
    changes: new Float64Array(rows * perRow),
    moments: new Float64Array(2 * rows * perRow),
  };
  return {
    values: state.values,
    step(gradient, rates) {
      for (const span of spansOf(rows, columns, length)) {
        stepScale(state, span.group, stepCodes(state, span, gradient, rates), rates);
        spread(state, span);
      }
    },
    finished: () => finished(compressed, state),
  };
}

interface State extends UnpackedGroups {
  readonly least: number;
  readonly greatest: number;
  readonly values: Float32Array;
  /** [rows, columns], and Adam's moments of them. */
  readonly latents: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  /** Of scales [rows, groups], relative; and Adam's two moments of each. */
  readonly changes: Float64Array;
  readonly moments: Float64Array;
}

/** @returns the gradient by the relative change of the group's scale, before anything moved */
function stepCodes(
  { latents, first, second, scales, zeros, changes, least, greatest }: State,
  { group, from, to }: Span,
  gradient: Float32Array,
  { codes: rate, step }: Rates,
): number {
  const [before, zero] = [scales[group], zeros[group]];
  const scale = before * (1 + changes[group]);
  const correction = 1 / (1 - beta2 ** step);
  const pace = rate / (1 - beta1 ** step);
  let slope = 0;
  for (let at = from; at < to; at++) {
    const free = Math.floor(latents[at] + 0.5);
    const code = free < least ? least : free > greatest ? greatest : free;
    slope += gradient[at] * (code - zero);
    const own = free === code ? gradient[at] * scale : 0;
    const mean = first[at] + (1 - beta1) * (own - first[at]);
    const square = second[at] + (1 - beta2) * (own * own - second[at]);
    first[at] = mean;
    second[at] = square;
    latents[at] -= (pace * mean) / (Math.sqrt(square * correction) + epsilon);
  }
  return slope * before;
}

function stepScale(
  { changes, moments }: State,
  group: number,
  slope: number,
  { scales: rate, step }: Rates,
): void {
  const mean = moments[2 * group] + (1 - beta1) * (slope - moments[2 * group]);
  const square = moments[2 * group + 1] + (1 - beta2) * (slope * slope - moments[2 * group + 1]);
  moments[2 * group] = mean;
  moments[2 * group + 1] = square;
  const size = Math.sqrt(square / (1 - beta2 ** step)) + epsilon;
  changes[group] -= (rate * mean) / (1 - beta1 ** step) / size;
}

/** The group's weights, from its codes and its scale. */
function spread(
  { values, latents, scales, zeros, changes, least, greatest }: State,
  { group, from, to }: Span,
): void {
  const [scale, zero] = [scales[group] * (1 + changes[group]), zeros[group]];
  for (let at = from; at < to; at++) {
    const free = Math.floor(latents[at] + 0.5);
    values[at] = ((free < least ? least : free > greatest ? greatest : free) - zero) * scale;
  }
}

/** The codes that there are, in the container that they are stored in. */
function codeRange(
  { description, tensors }: Encoding,
  { bits: width }: UnpackedGroups,
): readonly [least: number, greatest: number] {
  const bits = typeof description.bits === 'number' ? description.bits : width;
  // Without zero points three bits lie in the middle of their four.
  const least = tensors.has('zeros') ? 0 : 2 ** (width - 1) - 2 ** (bits - 1);
  return [least, least + 2 ** bits - 1];
}

function latentsOf(
  { rows, columns, length, codes, scales, zeros }: UnpackedGroups,
  weight: Float32Array,
): Float32Array {
  const perRow = scales.length / rows;
  return weight.map((value, at) => {
    const group = Math.floor(at / columns) * perRow + Math.floor((at % columns) / length);
    const exact = value / scales[group] + zeros[group];
    // A scale of 0 says nothing.
    return Number.isFinite(exact) ? Math.min(Math.max(exact, codes[at] - edge), codes[at] + edge) : codes[at];
  });
}

function finished(compressed: Encoding, state: State): Encoding {
  const { columns, bits: width, latents, scales, changes, least, greatest } = state;
  const before = { codes: compressed.tensors.get('codes')!, scales: compressed.tensors.get('scales')! };
  const codes = Uint8Array.from(latents, (u) => Math.min(Math.max(Math.floor(u + 0.5), least), greatest));
  const [, blocks, blockBytes] = before.codes.shape;
  const fill = compressed.tensors.has('zeros') ? 0 : 2 ** (width - 1);
  const packed = pack(codes, columns, width, (blocks * blockBytes * 8) / width, fill);
  const changed = scales.map((scale, group) => scale * (1 + changes[group]));
  const values = before.scales.dtype === 'float16' ? floatToHalf(changed) : changed;
  return restore({
    ...compressed,
    tensors: new Map([
      ...compressed.tensors,
      ['codes', stored('uint8', before.codes.shape, packed)],
      ['scales', stored(before.scales.dtype, before.scales.shape, values)],
    ]),
  });
}
