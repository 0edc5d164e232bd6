import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { random } from '../../base/random.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { BinaryOptions } from './binary.ts';
import { binary, compensateSigns, roundToSigns } from './binary.ts';

const [rows, columns] = [33, 132];
const { normal } = random(1);
const inputs = Array.from({ length: 2 * columns }, () => {
  let shared = normal();
  return Float32Array.from({ length: columns }, (_, i) => {
    shared = 0.9 * shared + 0.4 * normal();
    return shared * (1 + (i % 5));
  });
});
const gram = new Float32Array(columns * columns);
for (const x of inputs) {
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) gram[i * columns + j] += x[i] * x[j];
  }
}
const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
const weight = () => ({ rows, columns, values: values.slice() });
const choice = (some: Partial<BinaryOptions>) => ({ ...binary.options.parse({}), ...some });

function outputError(encoding: Encoding): number {
  const found = encoding.dense();
  let sum = 0;
  for (const x of inputs) {
    for (let row = 0; row < rows; row++) {
      let d = 0;
      for (let i = 0; i < columns; i++) d += x[i] * (found[row * columns + i] - values[row * columns + i]);
      sum += d * d;
    }
  }
  return sum;
}

const relativeError = (encoding: Encoding): number => {
  const size = values.reduce((sum, value) => sum + value ** 2, 0);
  return encoding.dense().reduce((sum, value, at) => sum + (value - values[at]) ** 2, 0) / size;
};

describe('binary', () => {
  // Of a normal distribution one sign leaves 1 - 2 / pi; four free values 0.1175 (Max 1960), fewer in small groups.
  it.each([
    [1, 0.3634],
    [2, 0.1175],
  ] as const)('with %i planes comes to what is known of normal numbers', async (planes, expected) => {
    const error = relativeError(await roundToSigns(weight(), choice({ planes, group: -1 })));
    expect(error).toBeGreaterThan(0.9 * expected);
    expect(error).toBeLessThan(1.05 * expected);
  });

  it.each([1, 2] as const)(
    'with %i planes loses less of the output where columns make up for others',
    async (planes) => {
      for (const group of [16, 64, -1] as const) {
        const nearest = await roundToSigns(weight(), choice({ planes, group }));
        const found = await compensateSigns(weight(), gram.slice(), choice({ planes, group }));
        expect(found.description).toEqual(nearest.description);
        expect(outputError(found)).toBeLessThan(0.5 * outputError(nearest));
      }
    },
  );

  it('is the same on one, two and three threads', async () => {
    const bytes = ({ tensors }: Encoding) =>
      [...tensors].map(([suffix, tensor]) => [suffix, tensor.bytes().slice()]);
    const [first, ...others] = await Promise.all(
      [1, 2, 3].map((threads) => compensateSigns(weight(), gram.slice(), choice({}), threads)),
    );
    for (const other of others) expect(bytes(other)).toEqual(bytes(first));
  });

  it('is rounding to nearest where no input was ever seen', async () => {
    const unseen = await compensateSigns(weight(), new Float32Array(columns * columns), choice({}));
    expect(unseen.dense()).toEqual((await roundToSigns(weight(), choice({}))).dense());
  });

  it('keeps zeros and equal weights', async () => {
    for (const value of [0, 0.25, -0.25]) {
      const same = { rows: 2, columns: 64, values: new Float32Array(128).fill(value) };
      const found = await roundToSigns(same, choice({}));
      expect(found.dense().every((each) => each === value)).toBe(true);
    }
  });

  it('refuses weights that are not finite, and what is no Gram matrix of theirs', async () => {
    const spoilt = { ...weight(), values: values.slice().fill(Number.NaN, 140, 141) };
    await expect(compensateSigns(spoilt, gram.slice(), choice({}))).rejects.toThrow(/row 1, column 8/);
    await expect(compensateSigns(weight(), gram.slice(1), choice({}))).rejects.toThrow(/\[132, 132\]/);
    await expect(binary.compress(weight(), { tokens: 0 }, choice({}))).rejects.toThrow(LapidaryError);
  });
});
