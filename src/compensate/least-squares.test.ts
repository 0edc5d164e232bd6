/** Methods that keep some weights apart, on inputs of which a few columns are far larger than the others. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../base/half.ts';
import { random } from '../base/random.ts';
import { integerGrid } from '../encodings/grid.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor } from '../graph/session.ts';
import { openSafetensors } from '../io/safetensors/read.ts';
import type { LinearMethod } from '../contract/method.ts';
import type { Statistic } from '../contract/statistic.ts';
import { rowEnergies } from './output-error.ts';
import { gptq } from '../methods/quantize/gptq.ts';
import { llmInt8 } from '../methods/quantize/llm-int8.ts';
import { largest } from '../rounding/columns-apart.ts';
import { savings } from './leave-one-out.ts';
import { owq } from '../methods/quantize/owq.ts';
import { spqr } from '../methods/quantize/spqr.ts';
import { w4a8 } from '../methods/quantize/w4a8.ts';
import { w8a8 } from '../methods/quantize/w8a8.ts';

const [rows, columns, tokens] = [48, 192, 600];
const { normal, uniform } = random(21);
const loud = [5, 77, 140];
/** Columns go together in part, as those of models do, so that some can make up for others. */
const common = Float32Array.from({ length: tokens * 8 }, normal);
const x = Float32Array.from({ length: tokens * columns }, (_, at) => {
  const [token, column] = [Math.floor(at / columns), at % columns];
  return (0.6 * normal() + 0.8 * common[token * 8 + (column % 8)]) * (loud.includes(column) ? 15 : 0.5);
});
/** Some weights are far larger than the others of their group. */
const values = Float32Array.from(
  { length: rows * columns },
  () => 0.05 * normal() * (uniform() < 0.01 ? 6 : 1),
);

const gram = new Float32Array(columns * columns);
const peaks = new Float32Array(columns);
for (let t = 0; t < tokens; t++) {
  const token = x.subarray(t * columns, (t + 1) * columns);
  for (let i = 0; i < columns; i++) {
    peaks[i] = Math.max(peaks[i], Math.abs(token[i]));
    for (let j = 0; j < columns; j++) gram[i * columns + j] += token[i] * token[j];
  }
}
const squares = Float32Array.from({ length: columns }, (_, i) => gram[i * columns + i]);
const statistic = (): Statistic => ({ tokens, squares, peaks, gram: gram.slice() });

const compress = (method: LinearMethod, some: object = {}): Promise<Encoding> =>
  method.compress({ rows, columns, values: values.slice() }, statistic(), method.options.parse(some));

/** Squared error of the outputs of what the engine runs, relative to the outputs. */
async function lossOf(encoding: Encoding): Promise<number> {
  const graph = new Graph();
  const input = graph.input('x', 'float32', ['n', columns]);
  graph.output(
    'y',
    encoding.multiply(input, (suffix, stored) => graph.weight(suffix, stored)),
  );
  const session = await openSession(graph, { threads: 1 });
  const { y } = await session.run({ x: tensor('float32', [tokens, columns], x) });
  await session.release();
  const found = y.data as Float32Array;
  let [error, whole] = [0, 0];
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let expected = 0;
      for (let i = 0; i < columns; i++) expected += x[t * columns + i] * values[row * columns + i];
      error += (found[t * rows + row] - expected) ** 2;
      whole += expected ** 2;
    }
  }
  return error / whole;
}

const loss = async (method: LinearMethod, some: object = {}) => lossOf(await compress(method, some));

describe.each([2, 3, 4] as const)('at %d bits', (bits) => {
  it('OWQ and SpQR lose less than GPTQ, the more the more they keep', async () => {
    const plain = await loss(gptq, { bits, group: 32 });
    const columns = await loss(owq, { bits, passes: 0, share: 0.02 });
    expect(columns).toBeLessThan(0.9 * plain);
    expect(await loss(owq, { bits, passes: 0, share: 0.1 })).toBeLessThan(columns);
    const weights = await loss(spqr, { bits, passes: 0, group: 32, share: 0.01 });
    expect(weights).toBeLessThan(0.9 * plain);
    expect(await loss(spqr, { bits, passes: 0, group: 32, share: 0.05 })).toBeLessThan(weights);
  });
});

describe('OWQ', () => {
  it('keeps the columns with the largest inputs here, and gives them no bits', async () => {
    const encoding = await compress(owq, { share: 3 / columns });
    expect(intsOf(encoding)).toEqual(loud);
    const whole = await compress(owq, { share: 0 });
    expect(encodedBytes(encoding) - encodedBytes(whole)).toBe(3 * (4 + 2 * rows));
    expect(encoding.label).toBe('4-bit, group 32, zero points, columns float16');
  });

  it('gives the kept columns the best values: any other lose more', async () => {
    const encoding = await compress(owq, { bits: 3, share: 3 / columns, damping: 0 });
    const best = encoding.dense();
    const error = energyOf(best);
    for (const column of loud) {
      for (const step of [-0.003, 0.003]) {
        const moved = best.slice();
        for (let row = 0; row < rows; row++) moved[row * columns + column] += step;
        expect(energyOf(moved)).toBeGreaterThan(error);
      }
    }
  });
});

describe('SpQR', () => {
  it('keeps as many weights as are asked for', async () => {
    const encoding = await compress(spqr, { share: 0.01 });
    const count = Math.round(0.01 * rows * columns);
    expect(encoding.tensors.get('values')!.shape).toEqual([count]);
    const none = await compress(spqr, { share: 0 });
    expect(encodedBytes(encoding) - encodedBytes(none)).toBe(4 * count);
  });

  it('gives the kept weights the best values: any other lose more', async () => {
    const encoding = await compress(spqr, { bits: 3, share: 0.003, damping: 0 });
    const best = encoding.dense();
    const starts = new Int32Array(encoding.tensors.get('starts')!.bytes().slice().buffer);
    const places = new Int16Array(encoding.tensors.get('columns')!.bytes().slice().buffer);
    for (let row = 0; row < rows; row++) {
      for (let i = starts[row]; i < starts[row + 1]; i++) {
        for (const step of [-0.02, 0.02]) {
          const moved = best.slice();
          moved[row * columns + places[i]] += step;
          expect(rowEnergy(moved, row)).toBeGreaterThan(rowEnergy(best, row));
        }
      }
    }
  });
});

describe.each([false, true])('what keeping a weight saves, symmetric %s', (symmetric) => {
  it('is the error of its group less that of the group without it', () => {
    const [length, top] = [8, 7];
    const group = Float32Array.from({ length }, normal);
    const importance = Float64Array.from({ length }, () => 1 + uniform());
    const matrix = { rows: 1, columns: length, values: group };
    const saved = savings(matrix, importance, { length, top, symmetric });
    const grid = integerGrid({ bits: 3, symmetric, range: 'minmax', scales: 'float32' });
    const errorOf = (places: readonly number[]) => {
      const parameters = grid.fit(Float32Array.from(places, (i) => group[i]));
      const cost = (i: number) =>
        importance[i] * (group[i] - grid.value(grid.round(group[i], parameters), parameters)) ** 2;
      return places.reduce((sum, i) => sum + cost(i), 0);
    };
    const all = [...group.keys()];
    for (const i of all) {
      const expected = Math.max(errorOf(all) - errorOf(all.filter((other) => other !== i)), 0);
      expect(saved[i]).toBeCloseTo(expected, 4);
    }
  });
});

describe('LLM.int8()', () => {
  it('keeps the columns whose inputs are beyond the threshold, exactly', async () => {
    const encoding = await compress(llmInt8);
    expect(intsOf(encoding)).toEqual(loud);
    const dense = encoding.dense();
    for (let row = 0; row < rows; row++) {
      for (const column of loud)
        expect(dense[row * columns + column]).toBeCloseTo(values[row * columns + column], 3);
    }
    expect(intsOf(await compress(llmInt8, { share: 3 / columns }))).toEqual(loud);
    expect((await compress(llmInt8, { threshold: 1000 })).tensors.has('columns')).toBe(false);
  });

  it('loses far less than W8A8', async () => {
    expect(await loss(llmInt8)).toBeLessThan(0.2 * (await loss(w8a8)));
  });
});

describe('W8A8', () => {
  it('loses more with one scale for all inputs than with one for each token', async () => {
    expect(await loss(w8a8)).toBeLessThan(await loss(w8a8, { inputs: 'static' }));
  });

  it('loses less in its weights where these make up for each other', async () => {
    const weights = async (some: object) => energyOf((await compress(w8a8, some)).dense());
    expect(await weights({ rounding: 'compensated' })).toBeLessThan(0.8 * (await weights({})));
  });

  it('asks for what it needs', () => {
    const asked = (some: object) => w8a8.statistic(w8a8.options.parse(some));
    const rounding = 'compensated';
    expect([{}, { inputs: 'static' }, { rounding }, { inputs: 'static', rounding }].map(asked)).toEqual([
      'none',
      'norm',
      'gram',
      'full',
    ]);
  });
});

describe('W4A8', () => {
  it('loses more than its weights alone, and the more the fewer bits inputs have', async () => {
    const [alone, eight, four] = [await loss(gptq), await loss(w4a8), await loss(w4a8, { inputBits: 4 })];
    expect(eight).toBeGreaterThan(alone);
    expect(four).toBeGreaterThan(eight);
  });
});

describe('the largest', () => {
  it('are given in order, of equal ones the first', () => {
    expect([...largest([3, 9, 1, 9, 3], 3)]).toEqual([0, 1, 3]);
  });
});

function intsOf({ tensors }: Encoding): number[] {
  return [...new Int32Array(tensors.get('columns')!.bytes().slice().buffer)];
}

/** |X (w - w')^T|^2 of one row by the Gram matrix. */
function rowEnergy(found: Float32Array, row: number): number {
  const difference = Float64Array.from(
    { length: columns },
    (_, i) => values[row * columns + i] - found[row * columns + i],
  );
  let sum = 0;
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) sum += difference[i] * gram[i * columns + j] * difference[j];
  }
  return sum;
}

const energyOf = (found: Float32Array): number =>
  Array.from({ length: rows }, (_, row) => rowEnergy(found, row)).reduce((a, b) => a + b);

describe("on the authors' example (test/goldens/README.md)", () => {
  const folder = new URL('../../test/goldens/', import.meta.url);
  const golden = JSON.parse(readFileSync(new URL('outliers.json', folder), 'utf8')) as Record<
    string,
    { error: number; columns?: number[]; share?: number }
  >;
  const stored = openSafetensors(new URL('inputs.safetensors', folder).pathname).tensors;
  const [values, x] = ['weight', 'inputs'].map((name) => toFloat32(stored.get(name)!));
  const [rows, columns, tokens] = [48, 128, 512];
  const gram = new Float32Array(columns * columns);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) gram[i * columns + j] += x[t * columns + i] * x[t * columns + j];
    }
  }

  async function error(method: LinearMethod, options: object): Promise<number> {
    const weight = { rows, columns, values: values.slice() };
    const encoding = await method.compress(
      weight,
      { tokens, gram: gram.slice() },
      method.options.parse(options),
    );
    const energy = async (values: Float32Array) =>
      (await rowEnergies({ rows, columns, values }, gram)).reduce((a, b) => a + b);
    const difference = encoding.dense().map((value, at) => value - values[at]);
    return Math.sqrt((await energy(difference)) / (await energy(values)));
  }

  it.each([3, 4])('OWQ loses no more than theirs with as many columns, at %d bits', async (bits) => {
    const theirs = golden[`owq ${bits} 32`];
    expect(await error(owq, { bits, share: theirs.columns!.length / columns })).toBeLessThan(theirs.error);
  });

  it.each([3, 4])('SpQR loses no more than theirs with as many weights, at %d bits', async (bits) => {
    const plain = golden[`spqr ${bits} 16`];
    const second = golden[`spqr ${bits} 16 second`];
    expect(await error(spqr, { bits, scales: 'float16', share: plain.share })).toBeLessThan(plain.error);
    expect(await error(spqr, { bits, share: second.share })).toBeLessThan(second.error);
  });
});
