import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { random } from '../../base/random.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import { integerGrid } from '../../encodings/grid.ts';
import type { PackedCodes } from '../../encodings/grouped.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import type { GptqOptions } from './gptq.ts';
import { gptq } from './gptq.ts';
import { compensateIntegers } from '../../compensate/integers.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const defaults = gptq.options.parse({ activationOrder: false });
const withDefaults = (some: Partial<GptqOptions>): GptqOptions => ({ ...defaults, ...some });

/** A weight and the Gram matrix of correlated inputs. */
function layer(rows: number, columns: number, { tokens = 2 * columns, seed = 1 } = {}) {
  const { normal } = random(seed);
  const x = new Float64Array(tokens * columns);
  for (let t = 0; t < tokens; t++) {
    let shared = normal();
    for (let i = 0; i < columns; i++) {
      shared = 0.9 * shared + 0.4 * normal();
      x[t * columns + i] = shared * (1 + (i % 5));
    }
  }
  const gram = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++) {
    for (let j = i; j < columns; j++) {
      let sum = 0;
      for (let t = 0; t < tokens; t++) sum += x[t * columns + i] * x[t * columns + j];
      gram[i * columns + j] = gram[j * columns + i] = sum;
    }
  }
  const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
  return { rows, columns, values, gram };
}
type Layer = ReturnType<typeof layer>;

const run = ({ rows, columns, values, gram }: Layer, options: Partial<GptqOptions>, threads?: number) =>
  compensateIntegers({ rows, columns, values: values.slice() }, gram.slice(), withDefaults(options), threads);

function put({ gram, columns }: Layer, i: number, j: number, value: number): void {
  gram[i * columns + j] = gram[j * columns + i] = value;
}

/** tr (W' - W) G (W' - W)^T: the squared output error. */
function outputError({ rows, columns, values, gram }: Layer, codes: PackedCodes): number {
  const found = groupedPacked(codes).dense();
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    const d = Float64Array.from(
      { length: columns },
      (_, i) => found[row * columns + i] - values[row * columns + i],
    );
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) sum += d[i] * gram[i * columns + j] * d[j];
    }
  }
  return sum;
}

/** The paper's algorithm as the authors wrote it, in float64: right-looking, with the inverse in full. */
function reference({ rows, columns: n, values, gram }: Layer, options: GptqOptions): Float32Array {
  const h = Float64Array.from(gram);
  let mean = 0;
  for (let i = 0; i < n; i++) mean += h[i * n + i] / n;
  for (let i = 0; i < n; i++) h[i * n + i] += options.damping * mean;
  const u = inverseFactor(h, n);
  const grid = integerGrid(options);
  const w = Float64Array.from(values);
  const result = new Float32Array(rows * n);
  for (let row = 0; row < rows; row++) {
    const at = row * n;
    let parameters = grid.fit(values.subarray(at, at + n));
    for (let first = 0; first < n; first += options.blockSize) {
      const last = Math.min(first + options.blockSize, n);
      const starts = Float32Array.from(w.subarray(at, at + n));
      for (let i = first; i < last; i++) {
        if (options.group !== -1 && i % options.group === 0) {
          parameters = grid.fit(starts.subarray(i, Math.min(i + options.group, n)));
        }
        result[at + i] = grid.value(grid.round(w[at + i], parameters), parameters);
        const error = (w[at + i] - result[at + i]) / u[i * n + i];
        for (let j = i + 1; j < n; j++) w[at + j] -= error * u[i * n + j];
      }
    }
  }
  return result;
}

/** U upper triangular with U^T U = H^-1: R R^T = H from the last column to the first, then U = R^-1. */
function inverseFactor(h: Float64Array, n: number): Float64Array {
  const r = new Float64Array(n * n);
  for (let k = n - 1; k >= 0; k--) {
    for (let i = 0; i <= k; i++) {
      let sum = h[i * n + k];
      for (let m = k + 1; m < n; m++) sum -= r[i * n + m] * r[k * n + m];
      r[i * n + k] = sum;
    }
    const pivot = Math.sqrt(r[k * n + k]);
    for (let i = 0; i <= k; i++) r[i * n + k] /= pivot;
  }
  const u = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    for (let i = j; i >= 0; i--) {
      let sum = i === j ? 1 : 0;
      for (let k = i + 1; k <= j; k++) sum -= r[i * n + k] * u[k * n + j];
      u[i * n + j] = sum / r[i * n + i];
    }
  }
  return u;
}

describe('gptq', () => {
  it.each([
    { columns: 172, group: 32, blockSize: 64, symmetric: false },
    { columns: 172, group: 16, blockSize: 16, symmetric: true },
    { columns: 300, group: 64, blockSize: 128, symmetric: false },
    { columns: 300, group: -1, blockSize: 128, symmetric: true },
  ] as const)('%o: as the algorithm on paper', async (some) => {
    const one = layer(20, some.columns);
    const options = withDefaults({ ...some, bits: 3, scales: 'float32' });
    const expected = reference(one, options);
    const found = groupedPacked(await run(one, options)).dense();
    const equal = found.filter(
      (value, at) => Math.abs(value - expected[at]) <= 1e-5 * Math.abs(expected[at]) + 1e-9,
    ).length;
    expect(equal / found.length).toBeGreaterThan(0.99);
  });

  it.each([2, 3, 4, 8] as const)(
    'loses less of the output than round-to-nearest at %i bits',
    async (bits) => {
      const one = layer(32, 172);
      const nearest = await roundToNearest(one, withDefaults({ bits }));
      expect(outputError(one, await run(one, { bits }))).toBeLessThan(0.7 * outputError(one, nearest));
    },
  );

  it('loses less with a grid searched for the least error, at two bits', async () => {
    const one = layer(32, 172);
    const [plain, searched] = [
      await run(one, { bits: 2, range: 'minmax' }),
      await run(one, { bits: 2, range: 'mse' }),
    ];
    expect(outputError(one, searched)).toBeLessThan(outputError(one, plain));
  });

  it.each([
    [1, 33],
    [17, 100],
    [48, 172],
    [144, 300],
    [200, 129],
  ])('[%i, %i]: the same bytes on one, two and three threads', async (rows, columns) => {
    const one = layer(rows, columns);
    for (const some of [{}, { activationOrder: true }, { group: -1, symmetric: true, bits: 3 } as const]) {
      const [first, ...others] = await Promise.all([1, 2, 3].map((threads) => run(one, some, threads)));
      for (const other of others) expect(other).toEqual(first);
    }
  });

  it.each([16, 32, 64, 128, 256, -1] as const)('takes any bits, with groups of %i', async (group) => {
    const one = layer(17, 100);
    for (const bits of [2, 3, 4, 8] as const) {
      for (const symmetric of [false, true]) {
        for (const activationOrder of [false, true]) {
          const encoding = groupedPacked(await run(one, { group, bits, symmetric, activationOrder }));
          expect(encoding.dense().every(Number.isFinite)).toBe(true);
          expect(encodedBytes(encoding)).toBeLessThan(17 * 100 * 2.5 + 17 * 256);
        }
      }
    }
  });

  it('rounds weights of inputs that are always 0 to nearest', async () => {
    const one = layer(8, 64);
    for (let i = 0; i < 64; i++) put(one, i, 5, 0);
    const options = withDefaults({ staticGroups: true });
    const [found, nearest] = [await run(one, options), await roundToNearest(one, options)];
    const [values, expected] = [groupedPacked(found).dense(), groupedPacked(nearest).dense()];
    for (let row = 0; row < 8; row++) expect(values[row * 64 + 5]).toBe(expected[row * 64 + 5]);
  });

  it('works on fewer tokens than columns, even without damping', async () => {
    const one = layer(8, 64, { tokens: 10 });
    const found = await run(one, { damping: 0 });
    expect(groupedPacked(found).dense().every(Number.isFinite)).toBe(true);
  });

  it('is round-to-nearest where no input was ever seen', async () => {
    const one = layer(8, 64);
    one.gram.fill(0);
    expect(await run(one, {})).toEqual(await roundToNearest(one, defaults));
  });

  it.each([
    [
      'NaN in the weight',
      (one: Layer) => one.values.fill(Number.NaN, 70, 71),
      /weights are not all finite\n(.*\n)*.*row 1, column 6/,
    ],
    [
      'infinity in the weight',
      (one: Layer) => one.values.fill(Number.POSITIVE_INFINITY, 3, 4),
      /weights are not all/,
    ],
    ['NaN in the Gram matrix', (one: Layer) => put(one, 1, 6, Number.NaN), /Gram matrix are not all finite/],
    ['NaN on its diagonal', (one: Layer) => put(one, 1, 1, Number.NaN), /column 1/],
    ['a Gram matrix that is none', (one: Layer) => put(one, 1, 6, 1e9), /not positive definite/],
    ['one of another size', (one: Layer) => Object.assign(one, { gram: one.gram.slice(64) }), /\[64, 64\]/],
  ])('refuses %s', async (_, spoil, message) => {
    const one = layer(8, 64);
    spoil(one);
    const refusal = run(one, {});
    await expect(refusal).rejects.toThrow(LapidaryError);
    await expect(refusal).rejects.toThrow(message);
  });

  it('needs a Gram matrix', async () => {
    expect(gptq.statistic(defaults)).toBe('gram');
    const one = layer(1, 16);
    await expect(gptq.compress(one, { tokens: 0 }, defaults)).rejects.toThrow(LapidaryError);
  });
});
