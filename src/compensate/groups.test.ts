import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import type { PackedCodes } from '../encodings/grouped.ts';
import { groupedPacked } from '../encodings/grouped.ts';
import { correctedWeight } from './asymmetric.ts';
import { gptq } from '../methods/quantize/gptq.ts';
import { compensateIntegers } from './integers.ts';

const [rows, columns, tokens] = [24, 64, 160];
const { normal } = random(5);
const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());

/** Inputs whose columns have much in common. */
function inputs(): Float64Array {
  const x = new Float64Array(tokens * columns);
  for (let t = 0; t < tokens; t++) {
    let shared = normal();
    for (let i = 0; i < columns; i++) {
      shared = 0.8 * shared + 0.6 * normal();
      x[t * columns + i] = shared;
    }
  }
  return x;
}

/** A^T B, [columns, columns]. */
function product(a: Float64Array, b: Float64Array): Float32Array {
  const found = new Float32Array(columns * columns);
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++) found[i * columns + j] += a[t * columns + i] * b[t * columns + j];
  return found;
}

/** |X W^T - X' W'^T|^2. */
function error(x: Float64Array, w: Float32Array, other: Float64Array, otherW: Float32Array): number {
  let sum = 0;
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let difference = 0;
      for (let i = 0; i < columns; i++) {
        difference +=
          x[t * columns + i] * w[row * columns + i] - other[t * columns + i] * otherW[row * columns + i];
      }
      sum += difference ** 2;
    }
  }
  return sum;
}

const x = inputs();
const gram = product(x, x);
const compress = (options: object, threads?: number): Promise<PackedCodes> =>
  compensateIntegers(
    { rows, columns, values: values.slice() },
    gram.slice(),
    gptq.options.parse({ group: 16, range: 'mse', ...options }),
    threads,
  );
const lossOf = (codes: PackedCodes) => error(x, values, x, groupedPacked(codes).dense());

describe.each([2, 3, 4, 8])('gptq with passes at %i bits', (bits) => {
  it.each([true, false])(
    'loses less than without, the more passes the less (symmetric: %s)',
    async (symmetric) => {
      const losses: number[] = [];
      for (const passes of [0, 1, 4]) losses.push(lossOf(await compress({ bits, symmetric, passes })));
      expect(losses[1]).toBeLessThan(losses[0]);
      expect(losses[2]).toBeLessThan(losses[1]);
    },
  );

  it('stores float16 scales and zero points that are codes, the same on any number of threads', async () => {
    const [one, three] = [await compress({ bits, passes: 2 }, 1), await compress({ bits, passes: 2 }, 3)];
    expect(three).toEqual(one);
    expect(one.zeros!.every((zero) => zero < 2 ** bits)).toBe(true);
    expect(groupedPacked(one).tensors.get('scales')!.dtype).toBe('float16');
  });
});

it('leaves groups that do not divide a row as they are without passes', async () => {
  const options = { bits: 4, group: 128 };
  expect(await compress({ ...options, passes: 3 })).toEqual(await compress(options));
});

describe('the weight that makes up for what earlier layers lost', () => {
  const original = x.map((value, i) => value + 0.3 * normal() * (1 + (i % 3)));
  const difference = original.map((value, i) => value - x[i]);
  const cross = product(x, difference);
  const corrected = async (asymmetric: number) =>
    (await correctedWeight({ rows, columns, values }, gram.slice(), cross, { asymmetric, damping: 0.001 }))
      .values;

  it('is nearly the least squares solution: its error is orthogonal to the inputs', async () => {
    const w = await corrected(1);
    const [before, after] = [error(original, values, x, values), error(original, values, x, w)];
    expect(after).toBeLessThan(before);
    // Along a direction from it to anywhere, nothing is to be gained.
    for (const step of [-0.02, 0.02]) {
      const beside = w.map((value) => value * (1 + step));
      expect(error(original, values, x, beside)).toBeGreaterThan(after);
    }
  });

  it('is the weight itself for a share of 0, or where nothing was lost', async () => {
    expect(await corrected(0)).toEqual(values);
    const none = new Float32Array(columns * columns);
    const { values: same } = await correctedWeight({ rows, columns, values }, gram.slice(), none, {
      asymmetric: 1,
      damping: 0.01,
    });
    expect(same).toEqual(values);
  });
});
