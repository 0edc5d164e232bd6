import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { grouped, groupedPacked, ungrouped } from '../encodings/grouped.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { withKernels } from '../kernels/kernels.ts';
import type { LatentMatrix } from './latent-codes.ts';
import { latentMatrix } from './latent-codes.ts';
import { roundToNearest } from '../rounding/nearest.ts';

const [rows, columns] = [3, 40];
const { normal } = random(5);
const weight = Float32Array.from({ length: rows * columns }, () => normal());
const still = { codes: 0, scales: 0, step: 1 };

async function compressed(some: object = {}) {
  const choice = { bits: 3, group: 16, symmetric: false, range: 'mse', scales: 'float16', ...some } as const;
  return groupedPacked(await roundToNearest({ rows, columns, values: weight.slice() }, choice));
}

const latent = <T>(encoding: Encoding, weight: Float32Array, use: (matrix: LatentMatrix | undefined) => T) =>
  withKernels((kernels) => use(latentMatrix(kernels, kernels.reserve(weight.byteLength), encoding, weight)));

describe('a matrix with latent codes', () => {
  it.each([{}, { symmetric: true }, { bits: 2, group: -1 }, { bits: 8, group: 32 }, { scales: 'float32' }])(
    'is what was compressed until something moves, with its last group cut short: %o',
    async (some) => {
      const encoding = await compressed(some);
      const same = await latent(encoding, weight, (matrix) => {
        expect(matrix!.values).toEqual(encoding.dense());
        matrix!.step(new Float32Array(weight.length).fill(1), still);
        expect(matrix!.values).toEqual(encoding.dense());
        return matrix!.finished();
      });
      expect(same.description).toEqual(encoding.description);
      for (const [suffix, { bytes }] of encoding.tensors)
        expect(same.tensors.get(suffix)!.bytes(), suffix).toEqual(bytes());
    },
  );

  it('rounds a weight the other way where it lies near enough to the edge and its gradient says so', async () => {
    const codes = Uint8Array.of(3, 3, 3, 3);
    const encoding = grouped({
      rows: 1,
      columns: 4,
      bits: 3,
      group: 16,
      codes,
      scales: Float32Array.of(1),
      zeros: Uint8Array.of(0),
    });
    // Exactly 3, nearly 3.5, past 3.5 and so held at 3.49, and as far below.
    await latent(encoding, Float32Array.of(3, 3.45, 3.8, 2.2), (matrix) => {
      // The first step of Adam is as long as its rate, whatever the gradient's size.
      matrix!.step(Float32Array.of(-1, -1e-9, -1e9, 1), { codes: 0.02, scales: 0, step: 1 });
      expect([...matrix!.values]).toEqual([3, 3, 4, 2]);
      matrix!.step(Float32Array.of(-1, -1e-9, -1e9, 1), { codes: 0.04, scales: 0, step: 2 });
      expect([...matrix!.values]).toEqual([3, 4, 4, 2]);
      expect([...matrix!.finished().dense()]).toEqual([3, 4, 4, 2]);
    });
  });

  it('passes no gradient to codes that are at the end of their range already', async () => {
    const codes = Uint8Array.of(7, 7);
    const encoding = grouped({
      rows: 1,
      columns: 2,
      bits: 3,
      group: 16,
      codes,
      scales: Float32Array.of(1),
      zeros: Uint8Array.of(0),
    });
    await latent(encoding, Float32Array.of(7.49, 7.49), (matrix) => {
      const up = { codes: 0.1, scales: 0, step: 1 };
      matrix!.step(Float32Array.of(-1, -1), up);
      // Past its end: neither further, nor back.
      matrix!.step(Float32Array.of(1, -1), { ...up, codes: 0, step: 2 });
      matrix!.step(Float32Array.of(0, 0), { ...up, codes: 0, step: 3 });
      expect([...matrix!.finished().dense()]).toEqual([7, 7]);
    });
  });

  it('moves a scale against the gradient by its relative change, as central differences have it', async () => {
    const encoding = await compressed({ bits: 4 });
    const slopes = Float32Array.from(weight, () => normal());
    const { scales, codes, zeros, length } = ungrouped(encoding)!;
    const perRow = scales.length / rows;
    const lossWith = (group: number, factor: number) =>
      encoding.dense().reduce((sum, _, at) => {
        const own = Math.floor(at / columns) * perRow + Math.floor((at % columns) / length);
        const scale = scales[own] * (own === group ? factor : 1);
        return sum + slopes[at] * (codes[at] - zeros[own]) * scale;
      }, 0);
    const moved = await latent(encoding, weight, (matrix) => {
      matrix!.step(slopes, { codes: 0, scales: 0.25, step: 1 });
      return matrix!.finished();
    });
    const after = ungrouped(moved)!.scales;
    for (const [group, scale] of scales.entries()) {
      const slope = lossWith(group, 1.01) - lossWith(group, 0.99);
      expect(after[group] / scale, `group ${group}`).toBeCloseTo(1 - 0.25 * Math.sign(slope), 3);
    }
  });

  it('follows a quadratic bowl to other scales, in as many bytes', async () => {
    const encoding = await compressed();
    const goal = encoding.dense().map((value) => 1.05 * value);
    const distance = (values: Float32Array) =>
      values.reduce((sum, value, at) => sum + (value - goal[at]) ** 2, 0);
    const found = await latent(encoding, weight, (matrix) => {
      for (let step = 0; step < 200; step++) {
        const gradient = matrix!.values.map((value, at) => 2 * (value - goal[at]));
        matrix!.step(gradient, { codes: 0, scales: 0.003 * (1 - step / 200), step: step + 1 });
      }
      return matrix!.finished();
    });
    expect(distance(found.dense())).toBeLessThan(0.01 * distance(encoding.dense()));
    expect(encodedBytes(found)).toBe(encodedBytes(encoding));
  });

  it('is none where the matrix is no grouped integers', async () => {
    const found = await latent(denseValues(weight, rows, columns), weight, (matrix) => matrix);
    expect(found).toBeUndefined();
  });
});
