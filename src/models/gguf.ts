/**
 * A GGUF file as a model: its metadata as the config.json that the architecture reads, its tensors under the names of
 * checkpoints. Matrices stay in the blocks they are stored in.
 */

import { LapidaryError } from '../base/errors.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { byteLength, elementCount } from '../base/tensor.ts';
import { toFloat32 } from '../base/half.ts';
import { blockEncoding } from '../encodings/blocks/encoding.ts';
import { blockTypes } from '../encodings/blocks/index.ts';
import { dense } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { countAt, countsAt, numberAt, textAt, wrongKey } from '../io/gguf/metadata.ts';
import type { GgufFile, GgufTensor } from '../io/gguf/read.ts';
import { tokenizerFiles } from '../tokenizer/gguf.ts';
import type { GgufFamily } from './gguf-names.ts';
import { ggufFamilies, ofExpert } from './gguf-names.ts';
import { ropeScaling } from './gguf-rope.ts';
import { inHalves } from './gguf-rows.ts';
import { asSetting } from './settings.ts';
import { vocabularyOf } from './gguf-vocabulary.ts';
import { loadModel } from './index.ts';
import type { StoredGrid } from './quantized/index.ts';
import type { Model } from './model.ts';

const floats: Readonly<Record<string, DType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

/**
 * @param source for model cards: the file's name
 * @param warn told in one line about tensors that nothing uses
 * @throws LapidaryError on an architecture, a key or a tensor that cannot be honoured, naming it
 */
export function modelFromGguf(
  file: GgufFile,
  source: string,
  warn: (line: string) => void = () => {},
): Model {
  const family = familyOf(file);
  const json = configOf(file, family);
  const tensors = new Map<string, Stored>();
  const encodings = new Map<string, Encoding>();
  for (const [name, tensor] of file.tensors) {
    // What it says is in the configuration by now.
    if (name === 'rope_freqs.weight') continue;
    const [, stem, suffix] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
    const ours = stem === undefined ? undefined : family.ours(stem);
    const heads = family.adjacentPairs ? pairedHeads(ours, json) : undefined;
    const whole = ours === undefined ? name : `${ours}.${suffix}`;
    if (tensor.shape.length === 3 && ours !== undefined && suffix === 'weight') {
      for (const [expert, own] of apart(tensor).entries())
        encodings.set(ofExpert(ours, expert), encodingOf(name, own, undefined, file.path));
    } else if (tensor.shape.length === 2 && ours !== undefined && suffix === 'weight') {
      encodings.set(ours, encodingOf(name, tensor, heads, file.path));
    } else {
      const vector = vectorOf(whole, tensor, heads, file.path);
      const offset = ours?.endsWith('norm') ? family.normOffset : 0;
      tensors.set(whole, offset === 0 ? vector : lessOffset(vector, offset));
    }
  }
  return loadModel({ source, json, tensors, encodings, files: filesOf(file) }, warn);
}

/** The matrices of a tensor that holds those of all experts, each read when it is needed. */
function apart({ type, shape: [count, ...shape], byteLength: all, range }: GgufTensor): Matrix[] {
  const byteLength = all / count;
  return Array.from({ length: count }, (_, expert) => ({
    type,
    shape,
    byteLength,
    bytes: () => range(expert * byteLength, byteLength),
  }));
}

/** What of a tensor, or of a part of one, a matrix is made of. */
type Matrix = Pick<GgufTensor, 'type' | 'shape' | 'byteLength' | 'bytes'>;

/** In float32: what is left may need more digits than the sum. */
function lessOffset(vector: Stored, offset: number): Stored {
  const bytes = () => new Uint8Array(toFloat32(vector).map((value) => value - offset).buffer as ArrayBuffer);
  return { dtype: 'float32', shape: vector.shape, byteLength: byteLength('float32', vector.shape), bytes };
}

/** Every tensor of a model as floats, computed when read; for looking whether they are finite. */
export function floatTensors(model: Model): ReadonlyMap<string, Stored> {
  const tensors = new Map(model.vectors);
  for (const [name, { shape, dense }] of model.matrices) {
    const byteLength = 4 * shape[0] * shape[1];
    const bytes = () => new Uint8Array(dense().buffer as ArrayBuffer);
    tensors.set(`${name}.weight`, { dtype: 'float32', shape, byteLength, bytes });
  }
  return tensors;
}

function filesOf({ metadata }: GgufFile): Model['files'] {
  const vocabulary = vocabularyOf(metadata);
  return vocabulary ? tokenizerFiles(vocabulary) : new Map();
}

function familyOf({ metadata, path }: GgufFile): GgufFamily {
  const architecture = textAt(metadata, 'general.architecture');
  const mixture = (numberAt(metadata, `${architecture}.expert_count`) ?? 0) > 0;
  const found = ggufFamilies.find(
    (family) => family.architecture === architecture && (family.experts !== undefined) === mixture,
  );
  const parts = numberAt(metadata, 'split.count') ?? 1;
  if (parts > 1) {
    throw new LapidaryError({
      what: `one of ${parts} parts of a split model`,
      where: path,
      expected: 'a whole model in one file',
      fix: 'join the parts: llama-gguf-split --merge FIRST_PART WHOLE.gguf',
    });
  }
  if (found) return found;
  throw new LapidaryError({
    what: 'this architecture is not known',
    where: `${path}, "general.architecture"`,
    expected: [...new Set(ggufFamilies.map((family) => family.architecture))].join(', '),
    found: architecture ?? 'nothing',
    fix: 'give a model of one of these architectures; `lapidary inspect` lists the tensors of any',
  });
}

/** config.json as transformers would have written it. */
function configOf(file: GgufFile, family: GgufFamily): Record<string, unknown> {
  const { metadata, tensors } = file;
  const key = (name: string) => `${family.architecture}.${name}`;
  const count = (name: string) => countAt(metadata, key(name));
  const embedding = tensors.get('token_embd.weight');
  if (embedding?.shape.length !== 2) {
    throw new LapidaryError({
      what: 'no matrix "token_embd.weight"',
      where: file.path,
      fix: 'this may be a vocabulary or an adapter alone; give the whole model',
    });
  }
  const layers = count('block_count');
  // Before anything is made for each of them.
  if (layers > tensors.size)
    throw wrongKey(
      key('block_count'),
      `no more than ${tensors.size} tensors`,
      metadata.get(key('block_count')),
    );
  const shared = {
    model_type: family.modelType,
    vocab_size: embedding.shape[0],
    tie_word_embeddings: !tensors.has('output.weight'),
    bos_token_id: numberAt(metadata, 'tokenizer.ggml.bos_token_id') ?? null,
    eos_token_id: numberAt(metadata, 'tokenizer.ggml.eos_token_id') ?? null,
  };
  const epsilon = shortest(numberAt(metadata, key(family.epsilonKey)) ?? 1e-5);
  if (family.modelType === 'gpt2') {
    return {
      ...shared,
      activation_function: 'gelu_new',
      layer_norm_epsilon: epsilon,
      n_embd: count('embedding_length'),
      n_head: count('attention.head_count'),
      n_inner: count('feed_forward_length'),
      n_layer: layers,
      n_positions: count('context_length'),
    };
  }
  const hidden = count('embedding_length');
  const each = (name: string) => countsAt(metadata, key(name), layers);
  const required = (name: string) => each(name) ?? [count(name)];
  const heads = required('attention.head_count');
  const headSize = numberAt(metadata, key('attention.key_length')) ?? hidden / Math.max(...heads);
  const valueSize = numberAt(metadata, key('attention.value_length')) ?? headSize;
  if (valueSize !== headSize)
    throw wrongKey(
      key('attention.value_length'),
      `${headSize}, as of keys`,
      metadata.get(key('attention.value_length')),
    );
  const rotated = numberAt(metadata, key('rope.dimension_count')) ?? headSize;
  if (rotated !== headSize)
    throw wrongKey(
      key('rope.dimension_count'),
      `${headSize}, all of a head`,
      metadata.get(key('rope.dimension_count')),
    );
  const theta = shortest(numberAt(metadata, key('rope.freq_base')) ?? 10000);
  const scaling = ropeScaling(metadata, family.architecture, ropeFactors(file), theta, headSize);
  return {
    ...shared,
    attention_bias: tensors.has('blk.0.attn_q.bias'),
    mlp_bias: tensors.has('blk.0.ffn_gate.bias'),
    head_dim: headSize,
    hidden_act: 'silu',
    hidden_size: hidden,
    intermediate_size: asSetting(required('feed_forward_length')),
    max_position_embeddings: count('context_length'),
    num_attention_heads: asSetting(heads),
    num_hidden_layers: layers,
    num_key_value_heads: asSetting(each('attention.head_count_kv') ?? heads),
    rms_norm_eps: epsilon,
    rope_theta: theta,
    ...(scaling && { rope_scaling: scaling }),
    ...family.own?.read((name) => ownNumber(metadata, key(name)), { headSize, layers }),
  };
}

function ownNumber(metadata: GgufFile['metadata'], key: string): number | undefined {
  const value = numberAt(metadata, key);
  return value === undefined ? undefined : shortest(value);
}

function ropeFactors({ tensors, path }: GgufFile): Float32Array | undefined {
  const tensor = tensors.get('rope_freqs.weight');
  return tensor && toFloat32(vectorOf('rope_freqs.weight', tensor, undefined, path));
}

/** The number that a person wrote before it became a float32: 1e-5, not 0.0000099999997. */
function shortest(value: number): number {
  const short = Number(value.toPrecision(7));
  return Math.fround(short) === Math.fround(value) ? short : value;
}

/** How many heads' rows are to be put back into halves; undefined for all but query and key. */
function pairedHeads(name: string | undefined, json: Record<string, unknown>): number | undefined {
  const [, layer, part] = /\.(\d+)\.self_attn\.([qk])_proj$/.exec(name ?? '') ?? [];
  if (part === undefined) return undefined;
  const heads = json[part === 'q' ? 'num_attention_heads' : 'num_key_value_heads'];
  return (Array.isArray(heads) ? heads[Number(layer)] : heads) as number;
}

function encodingOf(name: string, tensor: Matrix, heads: number | undefined, path: string): Encoding {
  const { shape, byteLength, type } = tensor;
  const bytes = heads === undefined ? tensor.bytes : () => inHalves(tensor.bytes(), shape[0], heads);
  const dtype = floats[type.name];
  if (dtype) return dense({ dtype, shape, byteLength, bytes });
  if (!blockTypes.byId.has(type.id)) {
    throw new LapidaryError({
      what: `tensor "${name}" is ${type.name}, which is not read here`,
      where: path,
      expected: ['F32', 'F16', 'BF16', ...blockTypes.byName.keys()].join(', '),
      found: type.name,
      fix: 'use another quantization of the model, or the original',
    });
  }
  const [rows, columns] = shape;
  return blockEncoding(type, [rows, columns], {
    dtype: 'uint8',
    shape: [rows, byteLength / rows],
    byteLength,
    bytes,
  });
}

function vectorOf(name: string, tensor: GgufTensor, heads: number | undefined, path: string): Stored {
  const { shape, byteLength, type } = tensor;
  const dtype = floats[type.name];
  if (!dtype) {
    throw new LapidaryError({
      what: `tensor "${name}" is ${type.name}`,
      where: path,
      expected: 'F32, F16 or BF16 in what is not a matrix',
    });
  }
  const bytes = heads === undefined ? tensor.bytes : () => inHalves(tensor.bytes(), shape[0], heads);
  return { dtype, shape, byteLength, bytes };
}

/** The grid that most weights of a file are on; undefined where they are floats, or on no even one. */
export function ggufGrid({ tensors }: GgufFile): StoredGrid | undefined {
  const weights = new Map<number, number>();
  for (const { type, shape } of tensors.values()) {
    if (shape.length === 2) weights.set(type.id, (weights.get(type.id) ?? 0) + elementCount(shape));
  }
  const [most] = [...weights].sort((a, b) => b[1] - a[1]);
  const type = most && blockTypes.byId.get(most[0]);
  if (!type?.levels.every((level, code) => level === type.levels[0] + code)) return undefined;
  const bits = Math.ceil(Math.log2(type.levels.length));
  // Scales of parts of a block are whole numbers times the block's own.
  return { bits, offsets: type.minima, halfScales: type.size === type.part };
}
