import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { blockTypeNamed, blockTypes } from '../encodings/blocks/index.ts';
import { compensated } from './block-types.ts';

const [rows, columns, tokens] = [21, 512, 1200];
const { normal } = random(11);
const values = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
const gram = gramOf(inputs());
const importance = Float32Array.from({ length: columns }, (_, i) => gram[i * columns + i] / tokens);
const even = [...blockTypes.byName.values()].filter(({ levels }) =>
  levels.every((level, i) => level === levels[0] + i),
);

/** Columns that have much in common, of sizes that differ. */
function inputs(): Float32Array {
  const x = new Float32Array(tokens * columns);
  const sizes = Float32Array.from({ length: columns }, () => Math.exp(normal()));
  for (let t = 0; t < tokens; t++) {
    const common = Array.from({ length: 8 }, () => normal());
    for (let i = 0; i < columns; i++) x[t * columns + i] = sizes[i] * (common[i % 8] + 0.5 * normal());
  }
  return x;
}

function gramOf(x: Float32Array): Float32Array {
  const sums = new Float32Array(columns * columns);
  for (let from = 0; from < x.length; from += columns) {
    for (let i = 0; i < columns; i++) {
      for (let k = 0; k < columns; k++) sums[i * columns + k] += x[from + i] * x[from + k];
    }
  }
  return sums;
}

/** Squared error of the outputs. */
function loss(weights: Float32Array, back: Float32Array): number {
  let sum = 0;
  for (let row = 0; row < weights.length; row += columns) {
    const d = back.subarray(row, row + columns).map((value, i) => value - weights[row + i]);
    for (let i = 0; i < columns; i++) {
      for (let k = 0; k < columns; k++) sum += d[i] * d[k] * gram[i * columns + k];
    }
  }
  return sum;
}

async function compensate(
  name: string,
  weights = values,
  { of = gram, threads = 2 } = {},
): Promise<Float32Array> {
  const type = blockTypeNamed(name);
  const matrix = { rows: weights.length / columns, columns, values: weights };
  const blocks = await compensated(type, matrix, of.slice(), importance, 0.01, threads);
  expect(blocks.length).toBe((weights.length / type.size) * type.bytes);
  return type.dequantize(blocks);
}

describe('errors compensated', () => {
  it.each(even.map(({ name }) => name))('%s: the outputs are nearer than with importance', async (name) => {
    const type = blockTypeNamed(name);
    const weighted = type.dequantize(type.quantize(values, columns, importance));
    const ours = loss(values, await compensate(name));
    expect(ours).toBeLessThan(0.7 * loss(values, weighted));
  });

  it.each(['Q4_0', 'Q5_1', 'Q2_K', 'Q6_K'])('%s: the same on any number of threads', async (name) => {
    const one = await compensate(name, values, { threads: 1 });
    expect(await compensate(name, values, { threads: 3 })).toEqual(one);
    expect(await compensate(name, values, { threads: 1 })).toEqual(one);
  });

  it.each(['Q4_0', 'Q4_K'])('%s: a row does not depend on the others', async (name) => {
    const alone = await compensate(name, values.slice(0, columns));
    expect((await compensate(name)).subarray(0, columns)).toEqual(alone);
  });
});

describe.each(even.map(({ name }) => name))('weights that are hard to hold, in %s', (name) => {
  it('zeros stay zeros, in whole rows and in blocks of them', async () => {
    const weights = values.slice(0, 3 * columns);
    weights.fill(0, columns, 2 * columns);
    weights.fill(0, 0, 256);
    const back = await compensate(name, weights);
    expect(back.subarray(columns, 2 * columns).every((value) => value === 0)).toBe(true);
    expect(back.every(Number.isFinite)).toBe(true);
  });

  it('equal weights stay near each other', async () => {
    const back = await compensate(name, new Float32Array(columns).fill(0.03));
    for (const value of back) expect(Math.abs(value - 0.03)).toBeLessThan(0.03);
  });

  it('the smallest and the largest that float16 scales reach', async () => {
    for (const size of [1e-3, 1e4]) {
      const weights = values.subarray(0, columns).map((value) => value * size);
      const back = await compensate(name, weights);
      expect(loss(weights, back)).toBeLessThan(
        loss(
          weights,
          weights.map(() => 0),
        ),
      );
    }
  });

  it('columns that no input reached', async () => {
    const of = gram.slice();
    for (let i = 64; i < 128; i++) {
      for (let k = 0; k < columns; k++) of[i * columns + k] = of[k * columns + i] = 0;
    }
    const back = await compensate(name, values.slice(0, 2 * columns), { of });
    const worst = Math.max(...back.map((value, i) => Math.abs(value - values[i])));
    expect(worst).toBeLessThan(0.3);
  });
});

it.each(even.map(({ name }) => name))('%s: codes, scales and minima make the same blocks again', (name) => {
  const type = blockTypeNamed(name);
  const blocks = type.quantize(values, columns, importance);
  const { parameters, codes } = type.unpack(blocks);
  expect(type.assemble(codes, parameters)).toEqual(blocks);
});

it('takes no type whose levels are unevenly spaced', async () => {
  await expect(compensate('IQ4_NL')).rejects.toThrow('evenly');
});
