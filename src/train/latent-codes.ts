/**
 * Grouped integers that are trained: every code has a latent number u that it is the nearest of, every scale a relative
 * change t,
 *   w = (clip(round(u)) - zero) scale (1 + t),
 * and rounding passes gradients on as if it were not there (straight-through: Bengio, Leonard and Courville 2013). A step
 * of Adam (Kingma and Ba 2015) goes once over a matrix: gradients of weights in, the next weights out (kernels/latents.ts).
 */

import { floatToHalf } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { UnpackedGroups } from '../encodings/grouped.ts';
import { ungrouped } from '../encodings/grouped.ts';
import { pack } from '../encodings/pack.ts';
import { restore } from '../encodings/restore.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import type { MovingMatrix } from './block-descent.ts';
import { groupAt } from '../rounding/tiles.ts';

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

/** Of Adam; the kernel has them, too. */
const [beta1, beta2] = [0.9, 0.95];
/** How near a latent number may begin to where its code would be another. */
const edge = 0.49;

/**
 * Latent numbers begin where the weight itself lies, or as near to it as leaves the code what it is.
 * @param flow room for the matrix' weights in the kernels' memory, which others may use between two steps
 * @param weight before it was compressed, row-major [rows, columns]
 * @returns undefined where the matrix is no grouped integers; valid as long as the kernels are the caller's
 */
export function latentMatrix(
  kernels: Kernels,
  flow: Area,
  compressed: Encoding,
  weight: Float32Array,
): LatentMatrix | undefined {
  const groups = ungrouped(compressed);
  if (!groups) return undefined;
  const { rows, columns, length, scales, zeros } = groups;
  const range = codeRange(compressed, groups);
  const values = compressed.dense();
  const state: State = {
    ...groups,
    range,
    latents: kernels.reserve(values.byteLength),
    changes: kernels.reserve(8 * scales.length),
  };
  const [means, squares] = [1, 2].map(() => kernels.reserve(values.byteLength));
  const [scale, zero] = [1, 2].map(() => kernels.reserve(scales.byteLength));
  const moments = kernels.reserve(16 * scales.length);
  for (const area of [means, squares, state.changes, moments]) kernels.bytes(area).fill(0);
  kernels.floats(state.latents).set(latentsOf(groups, weight));
  kernels.floats(scale).set(scales);
  kernels.floats(zero).set(zeros);
  const areas = [state.latents, means, squares].map(({ at }) => at);
  const ofGroups = [scale, zero, state.changes, moments].map(({ at }) => at);
  return {
    values,
    step(gradient, rates) {
      const [first, second] = [1 - beta1 ** rates.step, 1 / (1 - beta2 ** rates.step)];
      const places = [flow.at, ...areas, columns, length, ...ofGroups];
      const paces = [rates.codes / first, second, rates.scales / first, second];
      kernels.floats(flow).set(gradient);
      kernels.run('stepLatents', rows, 0, ...places, ...range, ...paces);
      values.set(kernels.floats(flow).subarray(0, values.length));
    },
    finished: () => finished(kernels, compressed, state),
  };
}

interface State extends UnpackedGroups {
  readonly range: readonly [least: number, greatest: number];
  /** float32 [rows, columns]. */
  readonly latents: Area;
  /** float64 [rows, groups], relative. */
  readonly changes: Area;
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
  { columns, length, codes, scales, zeros }: UnpackedGroups,
  weight: Float32Array,
): Float32Array {
  return weight.map((value, at) => {
    const group = groupAt(at, columns, length);
    const exact = value / scales[group] + zeros[group];
    // A scale of 0 says nothing.
    return Number.isFinite(exact) ? Math.min(Math.max(exact, codes[at] - edge), codes[at] + edge) : codes[at];
  });
}

function finished(kernels: Kernels, compressed: Encoding, state: State): Encoding {
  const { columns, bits: width, scales, range } = state;
  const [least, greatest] = range;
  const before = { codes: compressed.tensors.get('codes')!, scales: compressed.tensors.get('scales')! };
  // As the kernel rounds.
  const latents = kernels.floats(state.latents);
  const codes = new Uint8Array(latents.length);
  for (let at = 0; at < codes.length; at++)
    codes[at] = Math.min(Math.max(Math.floor(Math.fround(latents[at] + 0.5)), least), greatest);
  const [, blocks, blockBytes] = before.codes.shape;
  const fill = compressed.tensors.has('zeros') ? 0 : 2 ** (width - 1);
  const packed = pack(codes, columns, width, (blocks * blockBytes * 8) / width, fill);
  const changes = new Float64Array(kernels.bytes(state.changes).slice().buffer);
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
