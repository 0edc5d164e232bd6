/** One layer whose matrix before the last has channels with far larger values than others: for tests of scaling methods. */

import { stored } from '../src/base/tensor.ts';
import { loadModel } from '../src/models/index.ts';
import type { Block, Changes } from '../src/contract/method.ts';
import type { Matrix, Statistic } from '../src/contract/statistic.ts';

export const down = 'model.layers.0.mlp.down_proj';
const up = 'model.layers.0.mlp.up_proj';
const [hidden, tokens] = [64, 256];

export interface Case {
  readonly weight: Matrix;
  /** [tokens, columns] */
  readonly inputs: Float32Array;
}

interface Choices {
  readonly columns?: number;
  readonly value?: (seed: number, index: number) => number;
}

/** As bench/peers/scaling/goldens.py makes them. */
export function goldenCase({ columns = 96, value = fromFormula }: Choices = {}): Case {
  const size = (column: number) => (column % 16 === 5 ? 12 : 0.5 + (column % 7) / 4);
  const draw = (seed: number, rows: number) =>
    Float32Array.from({ length: rows * columns }, (_, index) => value(seed, index));
  return {
    weight: { rows: hidden, columns, values: draw(1, hidden) },
    inputs: Float32Array.from(
      { length: tokens * columns },
      (_, index) => value(2, index) * size(index % columns),
    ),
  };
}

const fromFormula = (seed: number, index: number): number =>
  ((index * index * 31 + index * 7919 + seed) % 10007) / 10007 - 0.5;

/** The case as the last matrix of a layer's feed-forward part; all else is the same everywhere. */
export function block({ weight, inputs }: Case, rounded: Block['rounded']): Block {
  const { columns } = weight;
  const json = {
    model_type: 'llama',
    vocab_size: 8,
    hidden_size: hidden,
    intermediate_size: columns,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    tie_word_embeddings: true,
  };
  const ones = (name: string, ...shape: number[]) =>
    [
      `${name}.weight`,
      stored('float32', shape, new Float32Array(shape.reduce((a, b) => a * b)).fill(1)),
    ] as const;
  const layer = 'model.layers.0';
  const tensors = new Map([
    ones('model.embed_tokens', 8, hidden),
    ...['input_layernorm', 'post_attention_layernorm'].map((norm) => ones(`${layer}.${norm}`, hidden)),
    ...['q', 'k', 'v', 'o'].map((part) => ones(`${layer}.self_attn.${part}_proj`, hidden, hidden)),
    ones(`${layer}.mlp.gate_proj`, columns, hidden),
    ones(up, columns, hidden),
    ones('model.norm', hidden),
  ]);
  tensors.set(`${down}.weight`, stored('float32', [hidden, columns], weight.values));
  const model = loadModel({ source: 'case', json, tensors, files: new Map() });
  const flat = statisticOf(new Float32Array(hidden).fill(1), hidden);
  const statistics = new Map([...model.matrices.keys()].map((name) => [name, flat]));
  statistics.set(down, statisticOf(inputs, columns));
  return { model, layer: 0, statistics, rounded };
}

/** What the last matrix's columns were multiplied by: one over what the rows before were. */
export function scalesIn({ matrices }: Changes): Float32Array {
  const encoding = matrices.get(up)!;
  const values = encoding.dense();
  return Float32Array.from({ length: encoding.shape[0] }, (_, row) => 1 / values[row * hidden]);
}

/** @param inputs [tokens, columns] */
export function statisticOf(
  inputs: Float32Array,
  columns: number,
): Required<Omit<Statistic, 'cross' | 'comparedGram'>> {
  const [gram, sums] = [new Float64Array(columns * columns), new Float64Array(columns)];
  const peaks = new Float32Array(columns);
  for (let start = 0; start < inputs.length; start += columns) {
    const x = inputs.subarray(start, start + columns);
    x.forEach((value, i) => {
      sums[i] += Math.abs(value);
      peaks[i] = Math.max(peaks[i], Math.abs(value));
      for (let j = 0; j < columns; j++) gram[i * columns + j] += value * x[j];
    });
  }
  const squares = Float32Array.from(sums, (_, i) => gram[i * columns + i]);
  return {
    tokens: inputs.length / columns,
    squares,
    sizes: Float32Array.from(sums),
    peaks,
    gram: Float32Array.from(gram),
  };
}
