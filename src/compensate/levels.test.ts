import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { toFloat32 } from '../base/half.ts';
import { random } from '../base/random.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { numberFormat } from '../encodings/levels/numbers.ts';
import type { NumberName } from '../encodings/levels.ts';
import { numberNames, unlevelled } from '../encodings/levels.ts';
import { openSafetensors } from '../io/safetensors/read.ts';
import type { CompensatedChoice } from './levels.ts';
import { roundToLevels } from '../rounding/levels.ts';
import { compensateLevels } from './levels.ts';

const defaults = {
  range: 'mse',
  scales: 'float16',
  activationOrder: true,
  staticGroups: false,
  damping: 0.01,
  blockSize: 64,
} as const;

/** A weight and the Gram matrix of correlated inputs. */
function layer(rows: number, columns: number) {
  const { normal } = random(1);
  const gram = new Float32Array(columns * columns);
  for (let t = 0; t < 2 * columns; t++) {
    let shared = normal();
    const x = Float32Array.from({ length: columns }, (_, i) => {
      shared = 0.9 * shared + 0.4 * normal();
      return shared * (1 + (i % 5));
    });
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) gram[i * columns + j] += x[i] * x[j];
    }
  }
  const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
  return { rows, columns, values, gram };
}
type Layer = ReturnType<typeof layer>;

/** tr (W' - W) G (W' - W)^T: the squared output error. */
function outputError({ rows, columns, values, gram }: Layer, encoding: Encoding): number {
  const found = encoding.dense();
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

const squaredError = ({ values }: Layer, encoding: Encoding): number =>
  encoding.dense().reduce((sum, value, at) => sum + (value - values[at]) ** 2, 0);

const compensate = (
  one: Layer,
  some: Partial<CompensatedChoice> & { numbers: NumberName },
  threads?: number,
) =>
  compensateLevels(
    { ...one, values: one.values.slice() },
    one.gram.slice(),
    { ...defaults, ...some },
    threads,
  );

const bytesOf = ({ tensors }: Encoding) =>
  [...tensors].map(([suffix, tensor]) => [suffix, tensor.bytes().slice()]);

describe.each(numberNames)('%s', (numbers) => {
  const one = layer(33, 132);

  it.each([undefined, 16, -1, 'tensor'] as const)(
    'in groups of %s: GPTQ loses less of the output',
    async (group) => {
      const nearest = await roundToLevels(one, { ...defaults, numbers, group });
      for (const activationOrder of [false, true]) {
        const found = await compensate(one, { numbers, group, activationOrder });
        expect(found.description).toEqual(nearest.description);
        expect(outputError(one, found)).toBeLessThan(0.5 * outputError(one, nearest));
      }
    },
  );

  it('loses no more where the scale is searched for', async () => {
    const [plain, searched] = await Promise.all(
      (['minmax', 'mse'] as const).map((range) => roundToLevels(one, { numbers, range, scales: 'float32' })),
    );
    expect(squaredError(one, searched)).toBeLessThan(squaredError(one, plain));
  });

  it('is the same on one, two and three threads', async () => {
    for (const activationOrder of [false, true]) {
      const [first, ...others] = await Promise.all(
        [1, 2, 3].map((threads) => compensate(one, { numbers, activationOrder }, threads)),
      );
      for (const other of others) expect(bytesOf(other)).toEqual(bytesOf(first));
    }
    const [first, second] = await Promise.all(
      [1, 3].map((threads) => roundToLevels(one, { ...defaults, numbers }, threads)),
    );
    expect(bytesOf(second)).toEqual(bytesOf(first));
  });

  it('is rounding to nearest where no input was ever seen', async () => {
    const unseen = { ...one, gram: new Float32Array(132 * 132) };
    const choice = { ...defaults, numbers, staticGroups: true };
    expect(bytesOf(await compensate(unseen, choice))).toEqual(bytesOf(await roundToLevels(one, choice)));
  });

  it('keeps zeros, and takes any size of weights', async () => {
    const zeros = await roundToLevels(
      { rows: 2, columns: 64, values: new Float32Array(128) },
      { ...defaults, numbers },
    );
    expect(zeros.dense().every((value) => value === 0)).toBe(true);
    for (const size of [1e-6, 1e4]) {
      const values = one.values.map((value) => value * size);
      const found = await roundToLevels({ ...one, values }, { ...defaults, numbers });
      const error =
        squaredError({ ...one, values }, found) / values.reduce((sum, value) => sum + value ** 2, 0);
      expect(error).toBeLessThan(numberFormat(numbers).bits === 2 ? 0.25 : 0.02);
    }
  });
});

describe('rounding to levels', () => {
  it('refuses weights that are not finite, and a Gram matrix of another size', async () => {
    const one = layer(4, 32);
    const spoilt = { ...one, values: one.values.slice().fill(Number.NaN, 40, 41) };
    await expect(roundToLevels(spoilt, { ...defaults, numbers: 'nf4' })).rejects.toThrow(/row 1, column 8/);
    await expect(compensate(spoilt, { numbers: 'nf4' })).rejects.toThrow(/row 1, column 8/);
    const small = { ...one, gram: one.gram.slice(32) };
    await expect(compensate(small, { numbers: 'nf4' })).rejects.toThrow(LapidaryError);
    await expect(compensate(small, { numbers: 'nf4' })).rejects.toThrow(/\[32, 32\]/);
  });

  it('goes through matrices in parts', async () => {
    const [rows, columns] = [144, 2 ** 15];
    const values = Float32Array.from({ length: rows * columns }, (_, at) => (at % 977) - 488);
    const whole = await roundToLevels({ rows, columns, values }, { numbers: 'mxfp4', range: 'minmax' });
    const last = values.subarray((rows - 1) * columns);
    const alone = await roundToLevels(
      { rows: 1, columns, values: last },
      { numbers: 'mxfp4', range: 'minmax' },
    );
    const codes = (encoding: Encoding) => encoding.tensors.get('levels')!.bytes();
    expect(codes(whole).subarray(-codes(alone).length)).toEqual(codes(alone));
  });
});

/** How they were made stands in test/goldens/README.md. */
describe('meets torchao, bitsandbytes and PyTorch', () => {
  const folder = new URL('../../test/goldens/', import.meta.url);
  const { weight: goldens } = JSON.parse(readFileSync(new URL('numbers.json', folder), 'utf8')) as {
    weight: Record<string, { codes: string; scales: string; divided?: number }>;
  };
  const values = toFloat32(
    openSafetensors(new URL('inputs.safetensors', folder).pathname).tensors.get('weight')!,
  );
  const weight = { rows: 48, columns: 128, values };
  const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'));
  const swapped = (packed: Uint8Array) => packed.map((byte) => (byte >> 4) | (byte << 4));

  it.each([
    { numbers: 'mxfp4' },
    { numbers: 'mxfp8' },
    { numbers: 'nvfp4' },
    { numbers: 'nf4', group: 64 },
    { numbers: 'fp8-e4m3', group: -1 },
    { numbers: 'fp8-e5m2', group: -1 },
  ] as const)('%o', async (choice) => {
    const { codes, scales, divided } = goldens[choice.numbers];
    const found = await roundToLevels(weight, { ...choice, range: 'minmax', scales: 'float32' });
    const mine = unlevelled(found)!;
    const theirs = choice.numbers === 'nf4' ? swapped(bytes(codes)) : bytes(codes);
    const [shape] = [found.tensors.get('levels')!.shape];
    expect(shape[0] * shape[1] * shape[2]).toBe(theirs.length);
    expect(mine.scaleCodes ?? mine.scales).toEqual(
      mine.scaleCodes ? bytes(scales) : new Float32Array(bytes(scales).buffer),
    );
    if (divided) expect(mine.global! * divided).toBeCloseTo(1, 6);
    expect(sameValues(mine.format.values, found.tensors.get('levels')!.bytes(), theirs)).toBe(1);
  });

  /** The share of bytes whose codes have equal values: there are two zeros. */
  function sameValues(table: Float32Array, mine: Uint8Array, theirs: Uint8Array): number {
    const parts = (byte: number) => (table.length === 256 ? [byte] : [byte & 15, byte >> 4]);
    const value = (byte: number) =>
      parts(byte)
        .map((code) => table[code] + 0)
        .join();
    return mine.filter((byte, at) => value(byte) === value(theirs[at])).length / mine.length;
  }
});
