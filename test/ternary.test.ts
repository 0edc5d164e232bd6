/**
 * A real model with ternary weights (BitNet b1.58), as its authors stored it: the encoding holds its matrices exactly,
 * and the model predicts text as it does elsewhere. Its norms stand before every linear layer, so here they belong to
 * the matrices: each divides its input by n times its root mean square and rounds it to eight bits.
 */

import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { stored } from '../src/base/tensor.ts';
import { dense } from '../src/encodings/dense.ts';
import type { Encoding } from '../src/encodings/encoding.ts';
import { encodedBytes } from '../src/encodings/encoding.ts';
import { levels } from '../src/encodings/levels.ts';
import { roundedActivations } from '../src/encodings/rounded.ts';
import { modelScorer } from '../src/evaluate/blocks.ts';
import { evaluate } from '../src/evaluate/evaluate.ts';
import { floats, rmsNorm } from '../src/graph/ops.ts';
import { roundToLevels } from '../src/rounding/levels.ts';
import type { Model } from '../src/models/model.ts';
import { llama } from '../src/models/architectures/llama.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';

const shared = new URL('../../shared/', import.meta.url);
const file = new URL('models/bitllama-3m/bit_model.bin', shared);
const tokenizerFolder = new URL('models/stories260K-hf/', shared);
const stories = new URL('data/tinystories/tiny.utf8', shared);
const missing = [file, tokenizerFolder, stories].some((each) => !existsSync(each));

const [hidden, intermediate, depth, heads, keyValueHeads, vocabulary, context] = [
  256, 256, 8, 8, 4, 512, 512,
];
const headSize = hidden / heads;
const parts = [
  ['self_attn.q_proj', hidden],
  ['self_attn.k_proj', keyValueHeads * headSize],
  ['self_attn.v_proj', keyValueHeads * headSize],
  ['self_attn.o_proj', hidden],
  ['mlp.gate_proj', intermediate],
  ['mlp.down_proj', hidden],
  ['mlp.up_proj', intermediate],
] as const;

interface Ternary {
  readonly name: string;
  readonly rows: number;
  /** -1, 0 and 1, [rows, 256]. */
  readonly signs: Int8Array;
  readonly scale: number;
}

/** Past a header of 256 bytes: final norm and embedding; for each part, for each layer: a scale, four weights a byte. */
function read() {
  const bytes = readFileSync(file);
  let at = 256;
  const numbers = (count: number) =>
    Float32Array.from({ length: count }, () => bytes.readFloatLE((at += 4) - 4));
  const norm = numbers(hidden);
  const embedding = numbers(vocabulary * hidden);
  const matrices: Ternary[] = [];
  for (const [part, rows] of parts) {
    for (let layer = 0; layer < depth; layer++) {
      const [scale] = numbers(1);
      const signs = Int8Array.from({ length: rows * hidden }, (_, i) => {
        const code = (bytes[at + (i >> 2)] >> (6 - 2 * (i & 3))) & 3;
        return code === 3 ? -1 : code;
      });
      at += signs.length / 4;
      matrices.push({ name: `model.layers.${layer}.${part}`, rows, signs, scale });
    }
  }
  return { norm, embedding, matrices, rest: bytes.length - at };
}

/** Rows of a head from adjacent pairs to halves, as the rotation here wants them. */
function regrouped({ name, rows, signs }: Ternary): Int8Array {
  if (!/[qk]_proj$/.test(name)) return signs;
  const found = new Int8Array(signs.length);
  for (let row = 0; row < rows; row++) {
    const [head, i] = [Math.floor(row / headSize), row % headSize];
    const from = head * headSize + 2 * (i % (headSize / 2)) + Math.floor(i / (headSize / 2));
    found.set(signs.subarray(from * hidden, (from + 1) * hidden), row * hidden);
  }
  return found;
}

const encoded = (matrix: Ternary): Encoding =>
  levels({
    numbers: 'ternary',
    rows: matrix.rows,
    columns: hidden,
    group: 'tensor',
    codes: Uint8Array.from(regrouped(matrix), (sign) => sign + 2),
    scales: Float32Array.of(matrix.scale),
  });

function withNorm(matrix: Encoding): Encoding {
  const rounded = roundedActivations(matrix, { bits: 8 });
  const weight = new Float32Array(hidden).fill(1 / hidden);
  return {
    ...rounded,
    multiply: (x, place, options) =>
      rounded.multiply(rmsNorm(x, floats(x.graph, weight), 1e-30), place, options),
  };
}

function modelOf({ norm, embedding, matrices }: ReturnType<typeof read>): Model {
  const ones = new Float32Array(hidden).fill(1);
  const config = llama.configure({
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: depth,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    vocab_size: vocabulary,
    max_position_embeddings: context,
    tie_word_embeddings: true,
    rms_norm_eps: 1e-5,
  });
  const layers = Array.from({ length: depth }, (_, layer) => `model.layers.${layer}`);
  const norms = layers.flatMap((layer) => [
    `${layer}.input_layernorm.weight`,
    `${layer}.post_attention_layernorm.weight`,
  ]);
  return {
    architecture: llama,
    config,
    matrices: new Map([
      ['model.embed_tokens', dense(stored('float32', [vocabulary, hidden], embedding))],
      ...matrices.map((matrix) => [matrix.name, withNorm(encoded(matrix))] as const),
    ]),
    vectors: new Map([
      ...norms.map((name) => [name, stored('float32', [hidden], ones)] as const),
      ['model.norm.weight', stored('float32', [hidden], norm)],
    ]),
    files: new Map(),
    source: 'bitllama-3m',
  };
}

it.skipIf(missing)('bitllama-3m (skipped without the shared folder): its matrices exactly', async () => {
  const { matrices, rest } = read();
  expect(rest).toBe(0);
  expect(matrices.length).toBe(7 * depth);
  for (const matrix of matrices) {
    const encoding = encoded(matrix);
    expect(encodedBytes(encoding)).toBe((matrix.rows * hidden) / 4 + 4);
    const values = Float32Array.from(regrouped(matrix), (sign) => sign * matrix.scale + 0);
    const found = encoding.dense().map((value) => value + 0);
    expect(Buffer.from(found.buffer).equals(Buffer.from(values.buffer))).toBe(true);
  }
  const [{ rows, signs, scale }] = matrices;
  const values = Float32Array.from(signs, (sign) => sign * scale);
  const weight = { rows, columns: hidden, values };
  const found = await roundToLevels(weight, {
    numbers: 'ternary',
    group: 'tensor',
    range: 'mse',
    scales: 'float32',
  });
  const error = found.dense().reduce((sum, value, i) => sum + (value - values[i]) ** 2, 0);
  expect(error / values.reduce((sum, value) => sum + value ** 2, 0)).toBeLessThan(0.01);
});

it.skipIf(missing)('bitllama-3m (skipped without the shared folder): 0.7714 bits a character', async () => {
  const model = modelOf(read());
  const files = new Map(
    ['tokenizer.json', 'tokenizer_config.json'].map((name) => [
      name,
      () => new Uint8Array(readFileSync(new URL(name, tokenizerFolder))),
    ]),
  );
  const tokenizer = loadTokenizer(files);
  const texts = readFileSync(stories, 'utf8')
    .split('<|endoftext|>')
    .map((text) => text.trim())
    .slice(0, 40);
  const sequences = texts.map((text) =>
    Int32Array.from(tokenizer.encode(text, { bos: true })).subarray(0, context),
  );
  // The space that stands before the text counts, too.
  const characters = sequences.map((ids) => tokenizer.decode(ids.subarray(1)).trim().length + 1);
  const scorer = modelScorer(model, { threads: 2 });
  const found = await evaluate({ scorer, sequences, characters });
  expect(found.tokens).toBe(12571);
  expect(found.nats).toBeCloseTo(1.1423, 3);
  expect(found.bitsPerCharacter.value).toBeCloseTo(0.7714, 3);
});
