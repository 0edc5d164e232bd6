import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import { loadModel } from '../models/index.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import { shipped } from '../open.ts';
import { diagonalBlocks, groupEnergies, rowEnergies } from '../compensate/output-error.ts';
import { changes, fold, gathered, scalingsOf, spread } from './scaling.ts';

const tiny = (name: string) => new URL(`../../test/models/${name}`, import.meta.url).pathname;
const ids = [Int32Array.from({ length: 24 }, (_, i) => (i * 31 + 7) % 60)];

/** Every layer with other scales, between a tenth and ten, wherever there can be some. */
function scaledAtRandom(model: Model): Model {
  const { uniform } = random(3);
  let scaled = model;
  for (const layer of model.config.layers.keys()) {
    const chosen = scalingsOf(scaled, layer).map(
      (scaling) =>
        [scaling, Float32Array.from({ length: scaling.channels }, () => 10 ** (2 * uniform() - 1))] as const,
    );
    const { matrices, vectors } = changes(fold(scaled, new Map(chosen)));
    scaled = {
      ...scaled,
      matrices: new Map([...scaled.matrices, ...matrices]),
      vectors: new Map([...scaled.vectors, ...vectors]),
    };
  }
  return scaled;
}

describe('scales that move to the matrices behind', () => {
  it.each(['llama-bias', 'qwen2', 'qwen3', 'gpt2', 'pebble'])(
    'leave the logits of %s as they were, within 1e-4',
    async (name) => {
      const model = loadModel(await openCheckpoint(name === shipped.name ? shipped.folder : tiny(name)));
      const [before, after] = [await logits(model, ids), await logits(scaledAtRandom(model), ids)];
      const [a, b] = [before.data as Float32Array, after.data as Float32Array];
      expect(Math.max(...a.map((value, index) => Math.abs(value - b[index])))).toBeLessThan(1e-4);
    },
  );

  it('go through all norms and passages of a gated layer, and are one for heads that share values', async () => {
    const model = loadModel(await openCheckpoint(tiny('qwen2')));
    const all = scalingsOf(model, 0);
    expect(all.map(({ from }) => from?.split('.').at(-1))).toEqual([
      undefined,
      undefined,
      'v_proj',
      'up_proj',
    ]);
    const { heads, keyValueHeads, headSize } = model.config.layers[0];
    expect(keyValueHeads).toBeLessThan(heads);
    const values = all[2];
    expect(values.channels).toBe(keyValueHeads * headSize);
    const columns = Float32Array.from({ length: heads * headSize }, (_, column) => column);
    const shared = heads / keyValueHeads;
    const means = gathered(values, columns, 'mean');
    expect(means[0]).toBeCloseTo((headSize * (shared - 1)) / 2);
    expect(gathered(values, columns, 'largest')[0]).toBe(headSize * (shared - 1));
    const back = spread(values, Float32Array.from(means));
    expect(back[headSize]).toBe(back[0]);
    expect(back[shared * headSize]).not.toBe(back[0]);
  });
});

describe('the energy of a change', () => {
  const { normal } = random(5);
  const draw = (count: number) => Float32Array.from({ length: count }, () => normal());

  it.each([
    [40, 24],
    [5, 24],
  ])('of %i rows of %i is that of its outputs', async (rows, columns) => {
    const [x, d] = [draw(60 * columns), draw(rows * columns)];
    const expected = new Float64Array(rows);
    for (let token = 0; token < 60; token++) {
      for (let row = 0; row < rows; row++) {
        let y = 0;
        for (let i = 0; i < columns; i++) y += x[token * columns + i] * d[row * columns + i];
        expected[row] += y * y;
      }
    }
    const found = await rowEnergies({ rows, columns, values: d }, gramOf(x, columns));
    found.forEach((value, row) => expect(value / expected[row]).toBeCloseTo(1, 4));
  });

  it('is taken of groups alone, the last of which may be short', async () => {
    const [rows, columns, length] = [3, 20, 8];
    const [gram, d] = [gramOf(draw(60 * columns), columns), draw(rows * columns)];
    const found = await groupEnergies(
      { rows, columns, values: d },
      length,
      diagonalBlocks(gram, columns, length),
    );
    expect(found.length).toBe(3 * rows);
    for (const group of [0, 1, 2]) {
      const alone = d.map((value, i) => (Math.floor((i % columns) / length) === group ? value : 0));
      const expected = await rowEnergies({ rows, columns, values: alone }, gram);
      expected.forEach((value, row) => expect(found[group * rows + row] / value).toBeCloseTo(1, 4));
    }
  });
});

function gramOf(x: Float32Array, columns: number): Float32Array {
  const gram = new Float32Array(columns * columns);
  for (let start = 0; start < x.length; start += columns) {
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) gram[i * columns + j] += x[start + i] * x[start + j];
    }
  }
  return gram;
}
