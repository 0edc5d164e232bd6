import { describe, expect, it } from 'vitest';
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from '../base/half.ts';
import { random } from '../base/random.ts';
import type { IntegerParameters } from '../encodings/grid.ts';
import { integerGrid, scaleForm, scaleTypes } from '../encodings/grid.ts';
import { pack as packReference } from '../encodings/pack.ts';
import type { Area, Kernels } from './kernels.ts';
import { withKernels } from './kernels.ts';
import * as twins from './twins.ts';

const up16 = (n: number): number => Math.ceil(n / 16) * 16;
const normals = (length: number, seed = 1): Float32Array => {
  const { normal } = random(seed);
  return Float32Array.from({ length }, () => normal() * 0.1);
};

function put(kernels: Kernels, values: Float32Array | Uint8Array | Uint16Array | Int32Array): Area {
  const area = kernels.reserve(values.byteLength);
  kernels.bytes(area).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return area;
}

const shapes = [
  [1, 1],
  [5, 33],
  [16, 64],
  [33, 100],
  [100, 172],
] as const;
const threadCounts = [1, 2, 3];

/** The grid one number at a time is slow, and the same for all threads. */
const known = new Map<string, readonly IntegerParameters[]>();
function once(key: string, compute: () => readonly IntegerParameters[]): readonly IntegerParameters[] {
  const found = known.get(key) ?? compute();
  known.set(key, found);
  return found;
}

describe.each(threadCounts)('kernels on %i threads', (threads) => {
  it.each(shapes)('transpose [%i, %i] with zeros in the last tile', async (rows, columns) => {
    const source = normals(rows * columns);
    const stride = up16(rows);
    const found = await withKernels((kernels) => {
      const to = put(kernels, new Float32Array(columns * stride).fill(7));
      kernels.run('transpose', stride / 16, 0, put(kernels, source).at, rows, columns, to.at, stride, 0);
      return kernels.floats(to).slice();
    }, threads);
    expect(found).toEqual(twins.transpose(source, rows, columns, stride));
  });

  it.each(
    ([halfToFloat, bfloatToFloat] as const).flatMap((widen, kind) =>
      ([[256, 256], [17, 33]] as const).map(([rows, columns]) => ({ kind, widen, rows, columns })),
    ),
  )('transpose numbers of 16 bits, every one of them: %o', async ({ kind, widen, rows, columns }) => {
    // 33 columns: rows begin anywhere, and infinities and NaN are among the last codes.
    const source = Uint16Array.from({ length: rows * columns }, (_, i) => 2 ** 16 - 1 - i);
    const stride = up16(rows);
    const found = await withKernels((kernels) => {
      const [from, to] = [kernels.reserve(source.byteLength), kernels.reserve(4 * columns * stride)];
      kernels.bytes(from).set(new Uint8Array(source.buffer));
      kernels.run('transpose', stride / 16, 0, from.at, rows, columns, to.at, stride, kind + 1);
      return kernels.floats(to).slice();
    }, threads);
    expect(found).toEqual(twins.transpose(widen(source), rows, columns, stride));
  });

  it.each(
    shapes.flatMap(([rows, columns]) =>
      (['minmax', 'mse'] as const).flatMap((range) =>
        [true, false].flatMap((symmetric) =>
          scaleTypes.map((scales) => ({ rows, columns, range, symmetric, scales })),
        ),
      ),
    ),
  )('fit %o as the grid does', async ({ rows, columns, range, symmetric, scales: type }) => {
    const [bits, size, stride] = [4, 32, up16(rows)] as const;
    const grid = integerGrid({ bits, symmetric, range, scales: type });
    const w = normals(columns * stride);
    w.fill(0, 0, Math.min(32, columns)); // one row's first group is not all zeros, some weights are
    // Scales of the last row are below the normal numbers of float16.
    for (let column = 0; column < columns; column++) w[column * stride + rows - 1] *= 1e-5;
    const groups = Math.ceil(columns / size);
    const [scales, zeros] = await withKernels((kernels) => {
      const areas = [kernels.reserve(groups * stride * 4), kernels.reserve(groups * stride * 4)] as const;
      const form = scaleForm({ bits, symmetric, scales: type });
      const flags = [...[symmetric, range === 'mse'].map(Number), form];
      const from = put(kernels, w).at;
      const items = (groups * stride) / 16;
      kernels.run(
        'fit',
        items,
        64 * size,
        from,
        columns,
        stride,
        size,
        areas[0].at,
        areas[1].at,
        15,
        ...flags,
      );
      return areas.map((area) => kernels.floats(area).slice());
    }, threads);
    const expected = once(JSON.stringify([rows, columns, range, symmetric, type]), () =>
      Array.from({ length: groups * stride }, (_, at) => {
        const [g, row] = [Math.floor(at / stride), at % stride];
        const length = Math.min(size, columns - g * size);
        return grid.fit(Float32Array.from({ length }, (_, i) => w[(g * size + i) * stride + row]));
      }),
    );
    const different = expected.filter(({ scale, zero }, at) => scales[at] !== scale || zeros[at] !== zero).length;
    // Two steps of the search can lose the same to within float32: then either is right.
    expect(different).toBeLessThanOrEqual(range === 'mse' ? 0.01 * groups * stride : 0);
  });

  it.each(
    shapes.flatMap(([rows, columns]) =>
      (['minmax', 'mse'] as const).flatMap((range) =>
        ([32, 100] as const).flatMap((size) =>
          ([0, 1, 2] as const).map((form) => ({ rows, columns, range, size, form })),
        ),
      ),
    ),
  )('round %o: parameters of fit, their codes, packed', async ({ rows, columns, range, size, form }) => {
    const [stride, top, width, shift] = [up16(rows), 7, 4, 4] as const;
    const source = normals(rows * columns);
    const narrow = [undefined, floatToHalf, floatToBfloat][form]?.(source);
    const values = narrow ? [halfToFloat, bfloatToFloat][form - 1](narrow) : source;
    const w = twins.transpose(values, rows, columns, stride);
    const groups = Math.ceil(columns / size);
    const rowBytes = (Math.ceil(columns / size) * size * width) / 8;
    const grid = [0, Number(range === 'mse'), 1];
    const [packed, found, fitted] = await withKernels((kernels) => {
      const room = () => kernels.reserve(groups * stride * 4);
      const [own, fits, to] = [[room(), room()], [room(), room()], kernels.reserve(rows * rowBytes)];
      const at = (areas: readonly Area[]) => areas.map((area) => area.at);
      const from = [put(kernels, narrow ?? source).at, rows, columns, form, size, ...at(own), stride, top];
      const target = [to.at, rowBytes, width, shift, 9];
      kernels.run('round', stride / 16, 80 * columns + 16, ...from, ...grid, ...target);
      const tiles = [put(kernels, w).at, columns, stride, size, ...at(fits), top];
      kernels.run('fit', (groups * stride) / 16, 64 * size, ...tiles, ...grid);
      const floats = (areas: readonly Area[]) => areas.map((area) => kernels.floats(area).slice());
      return [kernels.bytes(to).slice(), floats(own), floats(fits)] as const;
    }, threads);
    expect(found).toEqual(fitted);
    const [scales, zeros] = fitted;
    const codes = twins.round(w, { columns, stride, size, top }, scales, zeros);
    const rowMajor = Uint8Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      return codes[column * stride + row] + shift;
    });
    expect(packed).toEqual(packReference(rowMajor, columns, width, (rowBytes * 8) / width, 9));
  });

  it.each(shapes)('compensate [%i, %i]', async (rows, columns) => {
    const [stride, pitch, top] = [up16(rows), up16(columns), 15];
    const [w, origin] = [normals(columns * stride), normals(columns * stride, 3)];
    const inverse = normals(columns * pitch, 4);
    for (let i = 0; i < columns; i++) inverse[i * pitch + i] = 1 + Math.abs(inverse[i * pitch + i]);
    const groups = Int32Array.from({ length: columns }, (_, i) => i % 3);
    const scales = normals(3 * stride, 2).map((x) => 0.01 + Math.abs(x));
    const zeros = Float32Array.from({ length: 3 * stride }, (_, i) => i % 16);
    const [codes, left] = await withKernels((kernels) => {
      const to = kernels.reserve(columns * stride);
      const from = put(kernels, origin);
      const inputs = [put(kernels, w).at, from.at, columns, stride, put(kernels, inverse).at, pitch];
      const grid = [put(kernels, groups).at, put(kernels, scales).at, put(kernels, zeros).at];
      kernels.run('compensate', stride / 16, 64 * columns, ...inputs, ...grid, to.at, top);
      return [kernels.bytes(to).slice(), kernels.floats(from).slice()];
    }, threads);
    const expected = twins.compensate(
      w,
      origin,
      { columns, stride, pitch, top },
      inverse,
      groups,
      scales,
      zeros,
    );
    expect(codes).toEqual(expected.codes);
    expect(left).toEqual(expected.left);
  });

  it.each(
    shapes.flatMap(([rows, columns]) => ([2, 4, 8] as const).map((width) => [rows, columns, width] as const)),
  )('pack [%i, %i] in %i bits', async (rows, columns, width) => {
    const stride = up16(rows);
    const rowBytes = (Math.ceil(columns / 32) * 32 * width) / 8;
    const { integer } = random(5);
    const codes = Uint8Array.from({ length: columns * stride }, () => integer(2 ** width - 1));
    const order = Int32Array.from({ length: columns }, (_, i) => columns - 1 - i);
    const found = await withKernels((kernels) => {
      const to = kernels.reserve(rows * rowBytes);
      const inputs = [put(kernels, codes).at, put(kernels, order).at, columns, stride, rows];
      kernels.run('pack', stride / 16, 16, ...inputs, to.at, rowBytes, width, 1, 2);
      return kernels.bytes(to).slice();
    }, threads);
    const rowMajor = Uint8Array.from({ length: rows * columns }, (_, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      return codes[order[column] * stride + row] + 1;
    });
    expect(found).toEqual(packReference(rowMajor, columns, width, (rowBytes * 8) / width, 2));
  });
});

describe('factor', () => {
  it.each([1, 3, 16, 33, 100, 128, 192])('finds R R^T and the inverse of R for size %i', async (size) => {
    const pitch = up16(size);
    const x = normals(2 * size * size);
    const s = new Float32Array(size * size);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = i === j ? 0.01 : 0;
        for (let t = 0; t < 2 * size; t++) sum += x[t * size + i] * x[t * size + j];
        s[i * size + j] = sum;
      }
    }
    const expected = twins.factor(s, size)!;
    const { bad, root, inverse } = await withKernels((kernels) => {
      const [from, to] = [kernels.reserve(size * pitch * 4), kernels.reserve(size * pitch * 4)];
      const view = kernels.floats(from);
      for (let i = 0; i < size; i++) view.set(s.subarray(i * size, (i + 1) * size), i * pitch);
      const bad = kernels.call('factor', from.at, to.at, size, pitch);
      return { bad, root: kernels.floats(from).slice(), inverse: kernels.floats(to).slice() };
    }, 1);
    expect(bad).toBe(-1);
    let [above, rootError, inverseError] = [0, 0, 0];
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < pitch; j++) {
        const [at, twin] = [i * pitch + j, i * size + j];
        if (j > i) above += Math.abs(inverse[at]);
        else {
          rootError = Math.max(rootError, Math.abs(root[at] - expected.root[twin]));
          inverseError = Math.max(inverseError, Math.abs(inverse[at] - expected.inverse[twin]));
        }
      }
    }
    const largest = expected.inverse.reduce((most, value) => Math.max(most, Math.abs(value)));
    expect(above).toBe(0);
    expect(rootError).toBeLessThan(1e-4);
    expect(inverseError / largest).toBeLessThan(1e-3);
  });

  it('names the column whose pivot is not positive', async () => {
    const bad = await withKernels((kernels) => {
      const from = put(
        kernels,
        Float32Array.from({ length: 48 }, (_, at) => [1, -1, 2][at / 17] ?? 0),
      );
      return kernels.call('factor', from.at, kernels.reserve(48 * 4).at, 3, 16);
    }, 1);
    expect(bad).toBe(1);
    expect(twins.factor(Float32Array.of(1, 0, 0, 0, -1, 0, 0, 0, 2), 3)).toBeUndefined();
  });
});

it('runs users of the same kernels one after the other', async () => {
  const order: string[] = [];
  const user = (name: string) =>
    withKernels(async () => {
      order.push(`${name} in`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      order.push(`${name} out`);
    }, 2);
  await Promise.all([user('a'), user('b')]);
  expect(order).toEqual(['a in', 'a out', 'b in', 'b out']);
});
