import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { scaleForm, scaleRounding } from '../encodings/grid.ts';
import { withKernels } from './kernels.ts';
import type { RoundedGroup } from './rounding-twin.ts';
import { spread, stepRounding } from './rounding-twin.ts';

const [rows, columns, pitch, length, top] = [5, 42, 44, 14, 7];
const groups = columns / length;

function start(symmetric: boolean): RoundedGroup[] {
  const { uniform, normal } = random(3);
  return Array.from({ length: rows * groups }, () => {
    const scale = Math.fround(0.3 + uniform());
    const zero = symmetric ? 4 : Math.floor(8 * uniform());
    return {
      weights: Float32Array.from({ length }, () => 1.5 * normal()),
      offsets: Float32Array.from({ length }, () => uniform()),
      scale,
      zero,
      low: scale * zero,
      high: scale * (top - zero),
      beta: 1,
      alpha: 1,
    };
  });
}

describe('steps of signed gradient descent on roundings', () => {
  it.each([
    { threads: 1, moving: 2, scales: 'float16' },
    { threads: 3, moving: 2, scales: 'float32' },
    { threads: 2, moving: 1, scales: 'short' },
    { threads: 2, moving: 0, scales: 'float16' },
  ] as const)('are the plain ones: %o', async ({ threads, moving, scales }) => {
    const { normal } = random(4);
    const options = { bits: 3, symmetric: moving === 1, scales } as const;
    const rates = { top, moving, offsets: 0.05, ranges: 0.01, stored: scaleRounding(options) };
    let plain = start(moving === 1);
    await withKernels((kernels) => {
      /** In rows of `pitch`. */
      const spreadOut = (of: (group: RoundedGroup, at: number) => Float32Array): Float32Array => {
        const all = new Float32Array(rows * pitch);
        for (const [at, group] of plain.entries())
          all.set(of(group, at), Math.floor(at / groups) * pitch + (at % groups) * length);
        return all;
      };
      const placed = (values: Float32Array | Float64Array) => {
        const area = kernels.reserve(values.byteLength);
        kernels.bytes(area).set(new Uint8Array(values.buffer));
        return area;
      };
      const each = (of: (group: RoundedGroup) => number) => Float32Array.from(plain, of);
      const flow = kernels.reserve(4 * rows * pitch);
      const [weights, offsets] = [
        placed(spreadOut((group) => group.weights)),
        placed(spreadOut((group) => group.offsets)),
      ];
      const [steps, zeros] = [placed(each(({ scale }) => scale)), placed(each(({ zero }) => zero))];
      const ends = placed(Float64Array.from(plain.flatMap(({ low, high }) => [low, high, 1, 1])));
      for (let step = 0; step < 20; step++) {
        const gradients = plain.map(() => Float32Array.from({ length }, () => 1e-7 * normal()));
        plain = plain.map((group, at) => stepRounding(group, gradients[at], rates));
        kernels.floats(flow).set(spreadOut((_, at) => gradients[at]));
        const places = [flow, weights, offsets].map(({ at }) => at);
        const ofGroups = [steps, zeros, ends].map(({ at }) => at);
        const rest = [top, moving, scaleForm(options), rates.offsets, rates.ranges];
        kernels.run('stepRounding', rows, 8, ...places, columns, pitch, length, ...ofGroups, ...rest);
      }
      const wanted = spreadOut((group) => group.offsets);
      for (const [at, offset] of kernels.floats(offsets).entries()) expect(offset).toBeCloseTo(wanted[at], 4);
      for (const [at, scale] of kernels.floats(steps).entries()) expect(scale).toBeCloseTo(plain[at].scale, 5);
      expect([...kernels.floats(zeros)]).toEqual(plain.map(({ zero }) => zero));
      const values = spreadOut((group) => spread(group, top));
      for (const [at, value] of kernels.floats(flow).entries()) expect(value).toBeCloseTo(values[at], 4);
    }, threads);
  });
});
