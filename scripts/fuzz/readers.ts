/** Every reader of files, each with a small real file that is changed, and how it is read. */

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parquetWriteFile } from 'hyparquet-writer';
import { parseJsonObject } from '../../src/base/json.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';
import { readDocuments } from '../../src/calibrate/data.ts';
import { readUnit, writeUnit } from '../../src/calibrate/resume.ts';
import { storedWeights } from '../../src/evaluate/onnx-weights.ts';
import { readOnnx } from '../../src/io/onnx/reader.ts';
import { exportGraph } from '../../src/export/graph.ts';
import { encodeModel } from '../../src/graph/onnx.ts';
import { openCheckpoint } from '../../src/io/checkpoint.ts';
import { openGguf } from '../../src/io/gguf/read.ts';
import { writeGguf } from '../../src/io/gguf/write.ts';
import { readImatrix, writeImatrix } from '../../src/io/imatrix/imatrix.ts';
import { openJournal } from '../../src/io/journal.ts';
import { openSafetensors } from '../../src/io/safetensors/read.ts';
import { writeSharded } from '../../src/io/safetensors/write.ts';
import { modelFromGguf } from '../../src/models/gguf.ts';
import { ggufOf } from '../../src/models/gguf-write.ts';
import { loadModel } from '../../src/models/index.ts';
import { openWeights } from '../../src/open.ts';
import { parseRecipe, readRecipe, writeRecipe } from '../../src/recipe/recipe.ts';
import { parseReport } from '../../src/report/schema.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';
import { byteTokenizer } from '../../test/engines/models.ts';
import { writeByteLlama } from '../../test/models/byte-llama.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { exampleReport } from '../../test/report-example.ts';
import type { Mutate } from './mutate.ts';
import { mutateBytes, mutateJson } from './mutate.ts';

export interface Reader {
  readonly name: string;
  readonly original: Uint8Array;
  readonly mutate: Mutate;
  /** @throws LapidaryError on what it does not take */
  read(bytes: Uint8Array): unknown;
}

const json = (value: unknown) => Buffer.from(JSON.stringify(value));

/** @param folder for files that are read by their path */
export async function readers(folder: string): Promise<Reader[]> {
  const all: Reader[] = [];
  const add = (name: string, mutate: Mutate, original: Uint8Array, read: Reader['read']) =>
    all.push({ name, mutate, original, read });
  /** One that reads a file at a path. */
  const atPath = (
    name: string,
    mutate: Mutate,
    path: string,
    original: Uint8Array,
    read: (path: string) => unknown,
  ) =>
    add(name, mutate, original, (bytes) => {
      writeFileSync(path, bytes);
      return read(path);
    });
  const place = (name: string) => {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    return path;
  };
  await models(place, atPath, add);
  tokenizers(add);
  await weights(place, atPath);
  data(place, atPath);
  await ours(place, atPath, add);
  return all;
}

type Place = (name: string) => string;
type Add = (name: string, mutate: Mutate, original: Uint8Array, read: Reader['read']) => void;
type AtPath = (
  name: string,
  mutate: Mutate,
  path: string,
  original: Uint8Array,
  read: (path: string) => unknown,
) => void;

/** Settings of models: of plain ones, of each architecture, of quantized ones, and of an exported one. */
async function models(place: Place, atPath: AtPath, add: Add): Promise<void> {
  const folder = await writeByteLlama(place('checkpoint'));
  for (const file of ['config.json', 'generation_config.json', 'model.safetensors']) {
    const own = place(`model-${file.replaceAll('.', '-')}`);
    cpSync(folder, own, { recursive: true });
    const path = join(own, file);
    const settings = json({ bos_token_id: 256, eos_token_id: [257, 258], temperature: 0.7 });
    const original = file.startsWith('generation') ? settings : readFileSync(path);
    const mutate = file.endsWith('.json') ? mutateJson : headerOf(original);
    atPath(`model, ${file}`, mutate, path, original, () => openModelWithoutText(own));
  }
  for (const name of readdirSync(new URL('../../test/models/', import.meta.url), { withFileTypes: true })) {
    if (!name.isDirectory()) continue;
    const { json: settings, ...rest } = await openCheckpoint(join(name.parentPath, name.name));
    add(`config.json, ${name.name}`, mutateJson, json(settings), (bytes) =>
      loadModel({ ...rest, json: parseJsonObject(bytes, { where: 'config.json' }) }),
    );
  }
  for (const [name, { config, tensors }] of Object.entries(quantized()))
    add(`config.json, ${name}`, mutateJson, json({ ...llamaSettings, ...config }), (bytes) => {
      const settings = parseJsonObject(bytes, { where: 'config.json' });
      const model = loadModel({ source: name, json: settings, tensors, files: new Map() });
      for (const encoding of model.matrices.values()) encoding.dense();
    });
  const exported = place('exported');
  mkdirSync(join(exported, 'onnx'), { recursive: true });
  writeFileSync(join(exported, 'onnx', 'model.onnx'), encodeModel(exportGraph(tinyLlama({ tied: false }))));
  const settings = json({ model_type: 'llama', max_position_embeddings: 16 });
  atPath('config.json, exported', mutateJson, join(exported, 'config.json'), settings, () =>
    openWeights(exported),
  );
}

/** All but the tokenizer's library, which has readers of its own. */
async function openModelWithoutText(folder: string): Promise<void> {
  const { model } = await openWeights(folder);
  for (const tensor of model?.vectors.values() ?? []) tensor.bytes();
}

const llamaSettings = {
  model_type: 'llama',
  vocab_size: 8,
  hidden_size: 32,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};

const zeros = (dtype: Stored['dtype'], ...shape: number[]): Stored => {
  const widths: Partial<Record<Stored['dtype'], number>> = {
    float32: 4,
    int32: 4,
    uint32: 4,
    int64: 8,
    float8e4m3: 1,
  };
  const bytes = (widths[dtype] ?? 2) * shape.reduce((a, b) => a * b, 1);
  return stored(dtype, shape, new Uint8Array(bytes));
};

/** A layer of 32 x 32 matrices as each format stores it, all codes and scales zero. */
function quantized() {
  const formats: Record<string, { config: object; parts: Record<string, Stored> }> = {
    gptq: {
      config: {
        quantization_config: { quant_method: 'gptq', bits: 4, group_size: 32, desc_act: false, sym: true },
      },
      parts: {
        qweight: zeros('int32', 4, 32),
        qzeros: zeros('int32', 1, 4),
        scales: zeros('float16', 1, 32),
        g_idx: zeros('int32', 32),
      },
    },
    awq: {
      config: {
        quantization_config: {
          quant_method: 'awq',
          bits: 4,
          group_size: 32,
          zero_point: true,
          version: 'gemm',
        },
      },
      parts: {
        qweight: zeros('int32', 32, 4),
        qzeros: zeros('int32', 1, 4),
        scales: zeros('float16', 1, 32),
      },
    },
    mlx: {
      config: { quantization: { group_size: 32, bits: 4, mode: 'affine' } },
      parts: {
        weight: zeros('uint32', 32, 4),
        scales: zeros('float16', 32, 1),
        biases: zeros('float16', 32, 1),
      },
    },
    'compressed-tensors': {
      config: {
        quantization_config: {
          quant_method: 'compressed-tensors',
          format: 'pack-quantized',
          quantization_status: 'compressed',
          ignore: ['lm_head', 're:.*norm'],
          config_groups: {
            group_0: {
              targets: ['Linear'],
              input_activations: null,
              weights: { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 32 },
            },
          },
        },
      },
      parts: {
        weight_packed: zeros('int32', 32, 4),
        weight_scale: zeros('float16', 32, 1),
        weight_shape: stored('int64', [2], BigInt64Array.of(32n, 32n)),
      },
    },
    fp8: {
      config: { quantization_config: { quant_method: 'fp8', weight_block_size: [16, 16], fmt: 'e4m3' } },
      parts: { weight: zeros('float8e4m3', 32, 32), weight_scale_inv: zeros('float32', 2, 2) },
    },
  };
  const layer = 'model.layers.0';
  const matrices = ['q', 'k', 'v', 'o']
    .map((part) => `${layer}.self_attn.${part}_proj`)
    .concat(['gate', 'up', 'down'].map((part) => `${layer}.mlp.${part}_proj`));
  const norms = [`${layer}.input_layernorm`, `${layer}.post_attention_layernorm`, 'model.norm'];
  return Object.fromEntries(
    Object.entries(formats).map(([name, { config, parts }]) => {
      const tensors = new Map<string, Stored>([['model.embed_tokens.weight', zeros('float16', 8, 32)]]);
      for (const norm of norms) tensors.set(`${norm}.weight`, zeros('float16', 32));
      for (const matrix of matrices)
        for (const [suffix, tensor] of Object.entries(parts)) tensors.set(`${matrix}.${suffix}`, tensor);
      return [name, { config, tensors }];
    }),
  );
}

function tokenizers(add: Add): void {
  const files = byteTokenizer();
  const text = 'One day, Tim saw a bird. ';
  const conversation = [
    { role: 'user', content: 'hello' },
    { role: 'assistant', content: 'hi' },
  ];
  const read = (name: string) => (bytes: Uint8Array) => {
    const tokenizer = loadTokenizer(new Map([...files, [name, () => bytes]]));
    tokenizer.decode(tokenizer.encode(text, { special: true, bos: true }));
    tokenizer.chat?.(conversation);
  };
  const definition = JSON.parse(Buffer.from(files.get('tokenizer.json')!()).toString()) as object;
  const whole = {
    ...definition,
    added_tokens: [{ id: 0, content: '<s>', special: true, lstrip: false, rstrip: true, normalized: false }],
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }] },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] } },
    },
  };
  add('tokenizer.json', mutateJson, json(whole), read('tokenizer.json'));
  const template =
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<{{ m.content | trim }}>{% else %}{{ m['content'] }}{% endif %}{% endfor %}";
  const config = {
    bos_token: '<s>',
    eos_token: { content: 'a' },
    chat_template: [{ name: 'default', template }],
  };
  add('tokenizer_config.json', mutateJson, json(config), read('tokenizer_config.json'));
  add('chat_template.jinja', mutateBytes, Buffer.from(template), read('chat_template.jinja'));
}

/** Changes the header more often than the weights behind it, and makes its length right again half of the time. */
function headerOf(whole: Uint8Array): Mutate {
  const end = 8 + Number(Buffer.from(whole).readBigUInt64LE());
  return (source, numbers) => {
    if (numbers.integer(4) === 0)
      return Buffer.concat([mutateBytes(source.subarray(0, end), numbers), source.subarray(end)]);
    const change = numbers.integer(2) === 0 ? mutateJson : mutateBytes;
    const header = change(source.subarray(8, end), numbers);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    return Buffer.concat([length, header, source.subarray(end)]);
  };
}

async function weights(place: Place, atPath: AtPath): Promise<void> {
  const tensors = new Map([
    ['model.embed_tokens.weight', zeros('float32', 16, 4)],
    ['model.norm.weight', zeros('bfloat16', 4)],
    ['lm_head.weight', zeros('float16', 16, 4)],
    ['steps', zeros('int64')],
  ]);
  const sharded = place('sharded');
  mkdirSync(sharded);
  writeFileSync(join(sharded, 'config.json'), '{}');
  const [first, ...others] = await writeSharded(sharded, tensors, 128);
  const shard = readFileSync(join(sharded, first!));
  atPath('safetensors', headerOf(shard), place('changed.safetensors'), shard, (path) => {
    for (const tensor of openSafetensors(path).tensors.values()) tensor.bytes();
  });
  const index = join(sharded, others.at(-1)!);
  atPath('model.safetensors.index.json', mutateJson, index, readFileSync(index), async () => {
    for (const tensor of (await openCheckpoint(sharded)).tensors.values()) tensor.bytes();
  });

  const { metadata, tensors: blocks } = ggufOf(
    { ...tinyLlama({ tied: false }), files: byteTokenizer() },
    { name: 'tiny', floats: 'F16' },
  );
  const gguf = place('changed.gguf');
  await writeGguf(gguf, metadata, blocks);
  atPath('GGUF', mutateBytes, gguf, readFileSync(gguf), (path) => {
    const model = modelFromGguf(openGguf(path), 'tiny');
    for (const make of model.files.values()) make();
  });
  const onnx = encodeModel(exportGraph(tinyLlama({ tied: false })));
  atPath('ONNX', mutateBytes, place('changed.onnx'), onnx, (path) => storedWeights(readOnnx(path)));

  for (const form of ['gguf', 'dat'] as const) {
    const path = place(`changed-${form}.imatrix`);
    const entry = { sums: Float32Array.of(1, 2, 3, 4), counts: Float32Array.of(2) };
    const entries = new Map([
      ['blk.0.attn_q.weight', entry],
      ['blk.0.ffn_up.weight', entry],
    ]);
    await writeImatrix(path, { entries, datasets: ['text'], chunks: 1, chunkSize: 16 }, form);
    atPath(`imatrix, ${form}`, mutateBytes, path, readFileSync(path), readImatrix);
  }
}

function data(place: Place, atPath: AtPath): void {
  const rows = Array.from({ length: 12 }, (_, index) => ({ id: index, text: `Row ${index}, "quoted"` }));
  const talks = rows.map(({ text }) => ({ messages: [{ role: 'user', content: text }] }));
  const files: Record<string, [Mutate, string]> = {
    'rows.jsonl': [mutateBytes, rows.map((row) => JSON.stringify(row)).join('\n')],
    'talks.jsonl': [mutateBytes, talks.map((row) => JSON.stringify(row)).join('\n')],
    'rows.json': [mutateJson, JSON.stringify(rows)],
    'talks.json': [mutateJson, JSON.stringify(talks)],
    'rows.csv': [mutateBytes, ['id,text', ...rows.map(({ id }) => `${id},"Row, ""${id}"""`)].join('\n')],
    'rows.txt': [mutateBytes, rows.map(({ text }) => text).join('\n\n')],
  };
  for (const [name, [mutate, content]] of Object.entries(files))
    atPath(name, mutate, place(name), Buffer.from(content), (path) => readDocuments(path));
  const path = place('rows.parquet');
  parquetWriteFile({
    filename: path,
    columnData: [
      { name: 'id', data: rows.map(({ id }) => BigInt(id)), type: 'INT64' },
      { name: 'text', data: rows.map(({ text }) => text), type: 'STRING' },
    ],
    rowGroupSize: 5,
  });
  atPath('rows.parquet', mutateBytes, path, readFileSync(path), (changed) => readDocuments(changed));
}

/** Files that Lapidary writes itself. */
async function ours(place: Place, atPath: AtPath, add: Add): Promise<void> {
  const recipe = parseRecipe({
    steps: [{ method: 'awq' }, { method: 'gptq', bits: 4, targets: ['blocks', 'last'] }],
    calibration: { data: 'text.jsonl' },
  });
  atPath('recipe.yaml', mutateBytes, place('recipe.yaml'), Buffer.from(writeRecipe(recipe)), (path) =>
    readRecipe(path),
  );
  add('report.json', mutateJson, json(exampleReport), (bytes) =>
    parseReport(Buffer.from(bytes).toString(), 'report.json'),
  );

  const output = place('out');
  const journal = openJournal(output, { seed: 1 }, { warn: () => {} });
  const [name, encoding] = [...tinyLlama({ tied: true }).matrices][0]!;
  const done = [{ encoding, row: { name } as never }];
  await writeUnit(journal, 'block-0', { done, changes: { matrices: new Map(), vectors: new Map() } });
  const targets = [{ name, shape: encoding.shape }];
  const unit = place('.out.journal/block-0.safetensors');
  const original = readFileSync(unit);
  atPath('journal, unit', headerOf(original), unit, original, () => {
    readUnit(journal, 'block-0', targets);
  });
  const key = place('.out.journal/key.json');
  const kept = readFileSync(key);
  atPath('journal, key', mutateJson, key, kept, () => {
    openJournal(output, { seed: 1 }, { warn: () => {} });
    rmSync(dirname(key), { recursive: true, force: true });
    mkdirSync(dirname(key));
  });
}
