/** Which type each matrix gets in llama.cpp's file types, against llama.cpp's own quantizer. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { random } from '../src/base/random.ts';
import type { Stored } from '../src/base/tensor.ts';
import { stored } from '../src/base/tensor.ts';
import { blockTypeFor } from '../src/encodings/blocks/index.ts';
import { openGguf } from '../src/io/gguf/read.ts';
import { writeGguf } from '../src/io/gguf/write.ts';
import { ggufFileTypes, typeInMix } from '../src/models/gguf-mixes.ts';
import { ggufFamilies } from '../src/models/gguf-names.ts';
import { ggufOf } from '../src/models/gguf-write.ts';
import { loadModel } from '../src/models/index.ts';
import type { Model } from '../src/models/model.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { byteTokenizer, openGolden } from './engines/models.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-mixes-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The tiny model of an architecture with other sizes, and noise for weights. */
async function resized(golden: 'llama' | 'gpt2', settings: Record<string, unknown>): Promise<Model> {
  const { config } = await openGolden(golden);
  const json = { ...config.json, ...settings };
  const { normal } = random(3);
  const shapes = golden === 'llama' ? llamaShapes(json) : gpt2Shapes(json);
  const tensors = new Map(
    shapes.map(([name, ...shape]): [string, Stored] => {
      const length = shape.reduce((a, b) => a * b);
      return [
        name,
        stored(
          'float32',
          shape,
          Float32Array.from({ length }, () => 0.1 * normal()),
        ),
      ];
    }),
  );
  return loadModel({ source: golden, json, tensors, files: byteTokenizer() });
}

type Shape = [name: string, ...shape: number[]];

function llamaShapes(json: Record<string, any>): Shape[] {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: words, head_dim: size } = json;
  const [q, kv] = [json.num_attention_heads * size, json.num_key_value_heads * size];
  const layers = Array.from({ length: json.num_hidden_layers }, (_, n): Shape[] => {
    const at = `model.layers.${n}`;
    return [
      [`${at}.input_layernorm.weight`, hidden],
      [`${at}.self_attn.q_proj.weight`, q, hidden],
      [`${at}.self_attn.k_proj.weight`, kv, hidden],
      [`${at}.self_attn.v_proj.weight`, kv, hidden],
      [`${at}.self_attn.o_proj.weight`, hidden, q],
      [`${at}.post_attention_layernorm.weight`, hidden],
      [`${at}.mlp.gate_proj.weight`, inner, hidden],
      [`${at}.mlp.up_proj.weight`, inner, hidden],
      [`${at}.mlp.down_proj.weight`, hidden, inner],
    ];
  });
  return [
    ['model.embed_tokens.weight', words, hidden],
    ...layers.flat(),
    ['model.norm.weight', hidden],
    ...(json.tie_word_embeddings ? [] : [['lm_head.weight', words, hidden] satisfies Shape]),
  ];
}

function gpt2Shapes(json: Record<string, any>): Shape[] {
  const { n_embd: hidden, n_positions: positions, vocab_size: words } = json;
  const both = (name: string, ...shape: number[]): Shape[] => [
    [`${name}.weight`, ...shape],
    [`${name}.bias`, shape.at(-1)!],
  ];
  const layers = Array.from({ length: json.n_layer }, (_, n) => [
    ...both(`transformer.h.${n}.ln_1`, hidden),
    ...both(`transformer.h.${n}.attn.c_attn`, hidden, 3 * hidden),
    ...both(`transformer.h.${n}.attn.c_proj`, hidden, hidden),
    ...both(`transformer.h.${n}.ln_2`, hidden),
    ...both(`transformer.h.${n}.mlp.c_fc`, hidden, 4 * hidden),
    ...both(`transformer.h.${n}.mlp.c_proj`, 4 * hidden, hidden),
  ]);
  return [
    ['transformer.wte.weight', words, hidden],
    ['transformer.wpe.weight', positions, hidden],
    ...layers.flat(),
    ...both('transformer.ln_f', hidden),
  ];
}

const small = { num_hidden_layers: 10, intermediate_size: 256, hidden_size: 256, head_dim: 8 };
const models: Record<string, Promise<Model>> = {
  'tied, four heads to a key': resized('llama', {
    ...small,
    num_key_value_heads: 1,
    tie_word_embeddings: true,
  }),
  'untied, two heads to a key, rows of 96': resized('llama', {
    ...small,
    num_hidden_layers: 33,
    hidden_size: 96,
  }),
  'rows of 48, which no block fits': resized('llama', { ...small, num_hidden_layers: 2, hidden_size: 48 }),
  'gpt2, query, key and value in one': resized('gpt2', { n_embd: 32, n_layer: 9, n_positions: 32 }),
};

describe.skipIf(!hasLlama)('where llama.cpp is installed', () => {
  it.each(Object.entries(models))('%s: every matrix gets the type that it chooses', async (name, opening) => {
    const model = await opening;
    const from = join(folder, `${name.replace(/\W+/g, '-')}.gguf`);
    const { metadata, tensors } = ggufOf(model, { name, floats: 'F32' });
    await writeGguf(from, metadata, tensors);
    const family = ggufFamilies.find(({ modelType }) => modelType === model.config.modelType)!;
    const ways = Object.keys(ggufFileTypes).flatMap((fileType) =>
      (/^(Q[45]_0|IQ4|Q4_K_M)/.test(fileType) ? [false, true] : [false]).map((weighted) => ({
        fileType,
        weighted,
      })),
    );
    const chosen = quantized(
      from,
      ways.map(({ fileType, weighted }) => ({ fileType, tensors: weighted ? tensors : new Map() })),
    );
    for (const [n, { fileType, weighted }] of ways.entries()) {
      for (const [ours, { shape }] of model.matrices) {
        const theirs = chosen[n].get(`${family.theirs(ours)}.weight`);
        if (theirs === 'F32') continue; // Positions, which llama.cpp does not quantize.
        const type = typeInMix(fileType, ours, model.config, weighted);
        const found = blockTypeFor(type, shape[1])?.name ?? 'F16';
        expect(found, `${fileType}, ${ours}, weighted: ${weighted}`).toBe(theirs);
      }
    }
  });
});

/** Types by tensor of the files that llama.cpp makes, each column of `tensors` as important as any other. */
function quantized(
  from: string,
  jobs: readonly {
    readonly fileType: string;
    readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>;
  }[],
): Map<string, string>[] {
  const files = jobs.map((_, n) => join(folder, `${n}.gguf`));
  const input = jobs.map(({ fileType, tensors }, n) => {
    const matrices = [...tensors].filter(([, { shape }]) => shape.length === 2);
    const entries = matrices.map(([name, { shape }]) => ({ name, size: shape[1] }));
    const importance = entries.length > 0 ? { entries } : undefined;
    return { from, to: files[n], fileType: ggufFileTypes[fileType]!.id, threads: 2, importance };
  });
  const { status, stderr } = spawnSync(process.execPath, ['test/engines/llama/quantize.js'], {
    maxBuffer: 2 ** 28,
    input: JSON.stringify(input),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`llama.cpp's quantizer ended with ${status}: ${stderr.slice(-500)}`);
  return files.map((path) => {
    const types = [...openGguf(path).tensors].map(([name, { type }]) => [name, type.name] as const);
    rmSync(path);
    return new Map(types);
  });
}
