import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { fitScale } from '../encodings/levels/grid.ts';
import type { NumberFormat } from '../encodings/levels/numbers.ts';
import { numberFormat } from '../encodings/levels/numbers.ts';
import type { NumberName } from '../encodings/levels.ts';
import { numberNames } from '../encodings/levels.ts';
import type { Area, Kernels } from './kernels.ts';
import { withKernels } from './kernels.ts';
import * as twins from './levels-twin.ts';

const up16 = (n: number): number => Math.ceil(n / 16) * 16;
const normals = (length: number, seed = 1): Float32Array => {
  const { normal } = random(seed);
  return Float32Array.from({ length }, () => normal() * 0.1);
};

function put(kernels: Kernels, ...all: readonly (Float32Array | Uint8Array | Int32Array)[]): Area {
  const raw = all.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength));
  const joined = Buffer.concat(raw);
  const area = kernels.reserve(joined.length);
  kernels.bytes(area).set(joined);
  return area;
}

const putTable = (kernels: Kernels, { table: { levels, thresholds, codes } }: NumberFormat): Area =>
  put(kernels, levels, thresholds, codes);

const cases = numberNames.flatMap((name, i) =>
  [
    [5, 33],
    [33, 100],
  ].map(([rows, columns]) => ({ name, rows, columns, threads: 1 + ((i + rows) % 3) })),
);
const length = 32;

describe.each(cases)('$name [$rows, $columns] on $threads threads', ({ name, rows, columns, threads }) => {
  const format = numberFormat(name as NumberName);
  const { size } = format.table;
  const stride = up16(rows);
  const groups = Math.ceil(columns / length);
  const w = normals(columns * stride);
  const scales = normals(groups * stride, 2).map((x) => (0.01 + Math.abs(x)) / format.divisor);

  it.each([
    { range: 'minmax', floats: 'float32' },
    { range: 'mse', floats: 'float16' },
  ] as const)('fits scales as the grid does: %o', async ({ range, floats }) => {
    const some = w.slice();
    for (let i = 0; i < length; i++) some[i * stride] = 0;
    for (let column = 0; column < columns; column++) some[column * stride + rows - 1] *= 1e-5;
    const factor = 3000;
    const form = { float: { float32: 0, float16: 1 }[floats], e8m0: 2, e4m3: 3 }[format.scale];
    const found = await withKernels((kernels) => {
      const to = kernels.reserve(groups * stride * 4);
      const inputs = [put(kernels, some).at, columns, stride, length, to.at, putTable(kernels, format).at, size];
      const search = [put(kernels, format.shares).at, range === 'mse' ? format.shares.length : 1];
      const rule = [Number(format.statistic === 'mean'), format.divisor, form, factor];
      kernels.run('fitLevels', (groups * stride) / 16, 64 * length, ...inputs, ...search, ...rule);
      return kernels.floats(to).slice();
    }, threads);
    const expected = Float32Array.from({ length: groups * stride }, (_, at) => {
      const start = Math.floor(at / stride) * length;
      const count = Math.min(length, columns - start);
      const group = Float32Array.from({ length: count }, (_, i) => some[(start + i) * stride + (at % stride)]);
      return fitScale(format, group, { range, floats, factor });
    });
    expect(found).toEqual(expected);
  });

  it('rounds to the nearest level', async () => {
    const found = await withKernels((kernels) => {
      const to = kernels.reserve(columns * stride);
      const inputs = [put(kernels, w).at, columns, stride, length, put(kernels, scales).at];
      kernels.run('roundLevels', stride / 16, 0, ...inputs, putTable(kernels, format).at, size, to.at);
      return kernels.bytes(to).slice();
    }, threads);
    expect(found).toEqual(twins.roundLevels(w, { columns, stride, length }, scales, format.table));
  });

  it('takes errors out of the columns that follow', async () => {
    const pitch = up16(columns);
    const origin = normals(columns * stride, 3);
    const inverse = normals(columns * pitch, 4);
    for (let i = 0; i < columns; i++) inverse[i * pitch + i] = 1 + Math.abs(inverse[i * pitch + i]);
    const rowOf = Int32Array.from({ length: columns }, (_, i) => i % groups);
    const [codes, left] = await withKernels((kernels) => {
      const to = kernels.reserve(columns * stride);
      const from = put(kernels, origin);
      const inputs = [put(kernels, w).at, from.at, columns, stride, put(kernels, inverse).at, pitch];
      const grid = [put(kernels, rowOf).at, put(kernels, scales).at, putTable(kernels, format).at, to.at, size];
      kernels.run('compensateLevels', stride / 16, 64 * columns, ...inputs, ...grid);
      return [kernels.bytes(to).slice(), kernels.floats(from).slice()];
    }, threads);
    const sizes = { columns, stride, pitch };
    const expected = twins.compensateLevels(w, origin, sizes, inverse, rowOf, scales, format.table);
    expect(codes).toEqual(expected.codes);
    expect(left).toEqual(expected.left);
  });
});

it.each([1, 2, 3])('signs take errors out of the columns that follow, on %i threads', async (threads) => {
  const [rows, columns, groups] = [33, 70, 3];
  const [stride, pitch] = [up16(rows), up16(columns)];
  const [w, origin] = [normals(columns * stride), normals(columns * stride, 3)];
  const inverse = normals(columns * pitch, 4);
  for (let i = 0; i < columns; i++) inverse[i * pitch + i] = 1 + Math.abs(inverse[i * pitch + i]);
  const rowOf = Int32Array.from({ length: columns }, (_, i) => i % groups);
  const scales = normals(groups * stride, 2).map(Math.abs);
  for (const second of [scales.map((scale) => scale / 2), new Float32Array(groups * stride)]) {
    const [codes, left] = await withKernels((kernels) => {
      const to = kernels.reserve(columns * stride);
      const from = put(kernels, origin);
      const inputs = [put(kernels, w).at, from.at, columns, stride, put(kernels, inverse).at, pitch];
      const grid = [put(kernels, rowOf).at, put(kernels, scales).at, put(kernels, second).at, to.at, 0];
      kernels.run('compensateSigns', stride / 16, 64 * columns, ...inputs, ...grid);
      return [kernels.bytes(to).slice(), kernels.floats(from).slice()];
    }, threads);
    const sizes = { columns, stride, pitch };
    const expected = twins.compensateSigns(w, origin, sizes, inverse, rowOf, scales, second);
    expect(codes).toEqual(expected.codes);
    expect(left).toEqual(expected.left);
  }
});
