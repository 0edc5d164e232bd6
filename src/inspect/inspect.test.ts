/** What headers say of models, those that compress takes and those that it refuses. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ggmlType } from '../base/ggml.ts';
import { elementCount } from '../base/tensor.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { walk } from '../calibrate/walk.ts';
import { exportTransformers } from '../export/transformers.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import type { GgufValue } from '../io/gguf/types.ts';
import type { WritableTensor } from '../io/gguf/write.ts';
import { writeGguf } from '../io/gguf/write.ts';
import { writeSafetensors } from '../io/safetensors/write.ts';
import { rtn } from '../methods/quantize/rtn.ts';
import { loadModel } from '../models/index.ts';
import { bitsPerWeight, parameters } from '../models/size.ts';
import { inspect } from './inspect.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-inspect-'));
afterAll(() => rmSync(root, { recursive: true }));

const floats = (...shape: number[]): Stored =>
  stored('float32', shape, new Float32Array(elementCount(shape)));

async function checkpoint(
  name: string,
  config: Readonly<Record<string, unknown>>,
  tensors: Readonly<Record<string, readonly number[]>>,
): Promise<string> {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const all = Object.entries(tensors).map(([key, shape]) => [key, floats(...shape)] as const);
  await writeSafetensors(join(folder, 'model.safetensors'), new Map(all));
  return folder;
}

it('says what the model that ships is', async () => {
  const found = await inspect();
  const { config } = loadModel(await openCheckpoint('models/pebble'));
  expect(found).toMatchObject({
    model: 'pebble',
    container: 'safetensors',
    modelType: 'llama',
    architecture: 'LlamaForCausalLM',
    hidden: config.hidden,
    vocabulary: config.vocabulary,
    context: config.context,
    tiedHead: true,
    chatTemplate: false,
    license: 'apache-2.0',
    bitsPerWeight: 16,
  });
  expect(found.refused).toBeUndefined();
  expect(
    found.layers.map(({ layer, heads, keyValueHeads, headSize }) => [layer, heads, keyValueHeads, headSize]),
  ).toEqual(config.layers.map((plan, layer) => [layer, plan.heads, plan.keyValueHeads, plan.headSize]));
  const sum = (rows: readonly { bytes: number; parameters: number }[]) => [
    rows.reduce((total, row) => total + row.bytes, 0),
    rows.reduce((total, row) => total + row.parameters, 0),
  ];
  expect(sum(found.tensors)).toEqual([found.bytes, found.parameters]);
  expect(sum(found.types)).toEqual([found.bytes, found.parameters]);
  const outside = found.tensors.filter(({ layer }) => layer === undefined);
  expect(sum([...found.layers, ...outside])).toEqual([found.bytes, found.parameters]);
});

it.each(['llama', 'gpt2', 'qwen3', 'mistral'])('finds every layer of %s by its names', async (name) => {
  const { layers } = loadModel(await openCheckpoint(`test/models/${name}`)).config;
  const found = await inspect(`test/models/${name}`);
  expect(found.layers).toHaveLength(layers.length);
  expect(found.layers).toMatchObject(layers);
});

describe('an exported file', () => {
  it('says bits and groups of rows whose last group is filled up', async () => {
    const plain = loadModel(await openCheckpoint('test/models/qwen3'));
    const options = rtn.options.parse({ bits: 4, group: 32, symmetric: false });
    const { model } = await walk(plain, [], { assign: () => ({ method: rtn, options }) });
    exportTransformers(model, join(root, 'filled'));
    const [layer] = (await inspect(join(root, 'filled'))).layers;
    expect(layer!.labels).toEqual(['4-bit, group 32, zero points']);
  });

  it('has codes, scales and zero points of a matrix as one', async () => {
    const plain = loadModel(await openCheckpoint('test/models/qwen3'));
    const options = rtn.options.parse({ bits: 4, group: 16, symmetric: false });
    const assign = () => ({ method: rtn, options });
    const { model } = await walk(plain, [], { assign });
    exportTransformers(model, join(root, 'onnx'));
    const found = await inspect(join(root, 'onnx'));
    expect(found).toMatchObject({ container: 'onnx', modelType: 'qwen3', madeBy: { producer: 'lapidary' } });
    expect(found.parameters).toBe(parameters(model));
    expect(found.bitsPerWeight).toBeCloseTo(bitsPerWeight(model), 10);
    const rows = new Map(found.tensors.map((row) => [row.name, row]));
    for (const [name, { shape, label }] of model.matrices) {
      expect(rows.get(name), name).toMatchObject({ shape, label, parameters: elementCount(shape) });
      expect(rows.get(name)!.parts).toHaveLength(3);
    }
    expect(rows.size).toBe(model.matrices.size + model.vectors.size);
    expect(found.layers[0]!.labels).toEqual(['4-bit, group 16, zero points']);
  });
});

describe('a model that compress refuses', () => {
  it('a BERT encoder, with its class and its layers', async () => {
    const layer = (index: number) => ({
      [`bert.encoder.layer.${index}.attention.self.query.weight`]: [16, 16],
      [`bert.encoder.layer.${index}.attention.self.query.bias`]: [16],
      [`bert.encoder.layer.${index}.intermediate.dense.weight`]: [64, 16],
    });
    const config = {
      architectures: ['BertForMaskedLM'],
      model_type: 'bert',
      hidden_size: 16,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      intermediate_size: 64,
      vocab_size: 30,
      max_position_embeddings: 512,
    };
    const folder = await checkpoint('bert', config, {
      'bert.embeddings.word_embeddings.weight': [30, 16],
      ...layer(0),
      ...layer(1),
      ...layer(2),
      'cls.predictions.bias': [30],
    });
    writeFileSync(join(folder, 'README.md'), '---\nlicense: mit\nbase_model: org/bert\n---\n');
    expect(await inspect(folder)).toMatchObject({
      modelType: 'bert',
      architecture: 'BertForMaskedLM',
      hidden: 16,
      vocabulary: 30,
      context: 512,
      license: 'mit',
      baseModel: 'org/bert',
      parameters: 30 * 16 + 3 * (16 * 16 + 16 + 64 * 16) + 30,
      layers: Array.from({ length: 3 }, (_, index) => ({
        layer: index,
        heads: 4,
        headSize: 4,
        intermediate: 64,
        bytes: 4 * (16 * 16 + 16 + 64 * 16),
        labels: ['float32'],
      })),
      refused: { what: 'this architecture is not known' },
    });
  });

  it('one with two stacks of layers, each apart, and windows by layer', async () => {
    const text = {
      hidden_size: 8,
      num_hidden_layers: 2,
      num_attention_heads: [2, 4],
      num_key_value_heads: 1,
      head_dim: 4,
      sliding_window: 16,
      layer_types: ['sliding_attention', 'full_attention'],
    };
    const config = {
      architectures: ['Gemma3ForConditionalGeneration'],
      model_type: 'gemma3',
      text_config: text,
    };
    const folder = await checkpoint('gemma3', config, {
      'language_model.model.layers.0.self_attn.q_proj.weight': [8, 8],
      'language_model.model.layers.1.self_attn.q_proj.weight': [16, 8],
      'vision_tower.encoder.layers.0.mlp.fc1.weight': [4, 4],
      // A list of weights is no stack of layers.
      'projector.0.weight': [4, 8],
    });
    const found = await inspect(folder);
    expect(found.layers).toMatchObject([
      { stack: 'language_model.model.layers', layer: 0, heads: 2, keyValueHeads: 1, window: 16 },
      { stack: 'language_model.model.layers', layer: 1, heads: 4, keyValueHeads: 1 },
      { stack: 'vision_tower.encoder.layers', layer: 0, parameters: 16 },
    ]);
    expect(found.layers[1]!.window).toBeUndefined();
    expect(found.tensors.find(({ name }) => name === 'projector.0.weight')!.layer).toBeUndefined();
  });

  it('a gemma3n GGUF, with blocks of types that nothing here computes with', async () => {
    const path = join(root, 'gemma.gguf');
    const metadata = new Map<string, GgufValue>([
      ['general.architecture', { type: 'string', value: 'gemma3n' }],
      ['general.license', { type: 'string', value: 'gemma' }],
      ['general.base_model.0.repo_url', { type: 'string', value: 'https://huggingface.co/google/gemma' }],
      ['gemma3n.block_count', { type: 'uint32', value: 2 }],
      ['gemma3n.embedding_length', { type: 'uint32', value: 256 }],
      ['gemma3n.context_length', { type: 'uint32', value: 32768 }],
      ['gemma3n.attention.head_count', { type: 'uint32', value: 4 }],
      ['gemma3n.attention.head_count_kv', { type: 'array', of: 'uint32', values: [1, 2] }],
      ['gemma3n.attention.key_length', { type: 'uint32', value: 256 }],
      ['tokenizer.chat_template', { type: 'string', value: '{{ messages }}' }],
    ]);
    const tensor = (type: string, ...shape: number[]): WritableTensor => {
      const { weights, bytes } = ggmlType(type);
      const byteLength = (elementCount(shape) / weights) * bytes;
      return { type: ggmlType(type), shape, byteLength, bytes: () => new Uint8Array(byteLength) };
    };
    await writeGguf(
      path,
      metadata,
      new Map([
        ['token_embd.weight', tensor('Q6_K', 40, 256)],
        ['blk.0.attn_q.weight', tensor('IQ2_XS', 1024, 256)],
        ['blk.0.post_ffw_norm.weight', tensor('F32', 256)],
        ['blk.1.attn_q.weight', tensor('Q4_K', 1024, 256)],
      ]),
    );
    expect(await inspect(path)).toMatchObject({
      model: 'gemma',
      container: 'gguf',
      modelType: 'gemma3n',
      hidden: 256,
      vocabulary: 40,
      context: 32768,
      tiedHead: true,
      chatTemplate: true,
      license: 'gemma',
      baseModel: 'google/gemma',
      bytes: readFileSync(path).byteLength,
      layers: [
        { layer: 0, heads: 4, keyValueHeads: 1, headSize: 256, labels: ['IQ2_XS'] },
        { layer: 1, heads: 4, keyValueHeads: 2, headSize: 256, labels: ['Q4_K'] },
      ],
      refused: { found: 'gemma3n' },
    });
  });

  it('a safetensors file alone, and types that have no arithmetic here', async () => {
    const path = join(root, 'adapter.safetensors');
    const header = Buffer.from(
      JSON.stringify({
        scales: { dtype: 'F8_E8M0', shape: [2, 2], data_offsets: [0, 4] },
        'a.0.lora_A.weight': { dtype: 'F32', shape: [1], data_offsets: [4, 8] },
      }),
    );
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(path, Buffer.concat([length, header, Buffer.alloc(8)]));
    const { model, tensors } = await inspect(path);
    expect(model).toBe('adapter.safetensors');
    expect(tensors).toMatchObject([
      { name: 'a.0.lora_A.weight', layer: 0, label: 'float32', bytes: 4 },
      { name: 'scales', label: 'F8_E8M0', bytes: 4 },
    ]);
  });
});

it.each(['no/such/model/here', 'package.json'])('refuses what is no model at all: %s', async (location) => {
  await expect(inspect(location)).rejects.toThrow(location);
});
