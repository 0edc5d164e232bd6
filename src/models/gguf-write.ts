/**
 * A model as the keys and tensors of a GGUF file: what `modelFromGguf` reads, the other way. Matrices in ggml blocks are
 * written as they are, others as floats.
 */

import { LapidaryError } from '../base/errors.ts';
import { ggmlType } from '../base/ggml.ts';
import { floatToBfloat, floatToHalf, toFloat32 } from '../base/half.ts';
import { elementCount, stored } from '../base/tensor.ts';
import { blockTypes } from '../encodings/blocks/index.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Imatrix } from '../io/imatrix/imatrix.ts';
import type { Origin } from '../io/origin.ts';
import type { GgufMetadata, GgufValue } from '../io/gguf/types.ts';
import type { WritableTensor } from '../io/gguf/write.ts';
import type { GgufVocabulary } from '../tokenizer/gguf.ts';
import { vocabularyFromFiles } from '../tokenizer/gguf-write.ts';
import type { GgufFamily } from './gguf-names.ts';
import { expertOf, ggufFamilies } from './gguf-names.ts';
import { ropesOf } from './rope.ts';
import { llama3Factors } from './gguf-rope.ts';
import { inPairs } from './gguf-rows.ts';
import type { Configuration, LayerPlan, Model, RopePlan } from './model.ts';

export type FloatType = 'F32' | 'F16' | 'BF16';

export interface GgufContents {
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, WritableTensor>;
}

export interface GgufOptions {
  /** general.name. */
  readonly name: string;
  /** Of matrices that are not in ggml's blocks. */
  readonly floats: FloatType;
  /** llama.cpp's number of the mix, which it shows: 0 all F32, 1 mostly F16, ... */
  readonly fileType?: number | undefined;
  /** What the original says of itself. */
  readonly origin?: Origin | undefined;
  /** What it was quantized by. */
  readonly importance?: { readonly file: string; readonly imatrix: Imatrix } | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

/** @throws LapidaryError on what llama.cpp does not compute: an architecture, a tokenizer, uneven heads */
export function ggufOf(given: Model, options: GgufOptions): GgufContents {
  const own = ggufFamilies.find(({ modelType }) => modelType === given.config.modelType);
  if (!own) {
    throw new LapidaryError({
      what: 'this architecture is not written as GGUF here',
      where: given.source,
      expected: ggufFamilies.map(({ modelType }) => modelType).join(', '),
      found: given.config.modelType,
    });
  }
  checkPlan(given, own);
  const uneven = isUneven(given) ? unevenArchitecture(given) : undefined;
  const [model, family] =
    uneven === undefined ? [given, own] : [withWidths(given), { ...own, architecture: uneven }];
  const words = vocabularyFromFiles(model.files, model.config.vocabulary, model.config);
  const more = model.config.eos.filter(
    (id) => ![words.eos, words.endOfTurn, words.endOfMessage].includes(id),
  );
  if (more.length > 0)
    options.warn?.(
      `${model.source}: GGUF has keys for three tokens that end a text, and the model has more; llama.cpp may not stop at ${more.map((id) => words.tokens[id]).join(', ')}`,
    );
  return {
    metadata: new Map([
      ...modelKeys(model, family, options),
      ...originKeys(options),
      ...vocabularyKeys(words),
      ...importanceKeys(options),
    ]),
    tensors: tensorsOf(model, family, options.floats),
  };
}

/** Whether layers differ in what llama.cpp reads one number of for all. */
const isUneven = ({ config: { layers } }: Model): boolean =>
  layers.some(({ heads, keyValueHeads, intermediate }) =>
    [
      heads - layers[0].heads,
      keyValueHeads - layers[0].keyValueHeads,
      intermediate - layers[0].intermediate,
    ].some((difference) => difference !== 0),
  );

/** llama.cpp's architecture for layers that differ, of models without biases; undefined where there is none. */
export function unevenArchitecture({ config, vectors }: Model): string | undefined {
  if ([...vectors.keys()].some((name) => name.endsWith('.bias'))) return undefined;
  return ggufFamilies.find(({ modelType }) => modelType === config.modelType)?.uneven;
}

/** Why llama.cpp does not compute a model's experts; undefined where it does. */
export function expertsMisfit({ config }: Model): string | undefined {
  const family = ggufFamilies.find(({ modelType }) => modelType === config.modelType);
  if (!family?.experts) return 'experts of models of this type are not written for llama.cpp yet';
  const { normalized } = family.experts;
  if (config.layers.every(({ experts }) => !experts || experts.normalized === normalized)) return undefined;
  return `llama.cpp has the weights of a token's experts ${normalized ? 'sum to 1' : 'as they are'} in models of this type`;
}

/** Of a feed-forward that computes nothing: a block of ggml. */
const emptyWidth = 32;

/**
 * With a feed-forward of zeros in layers that have none: llama.cpp (v0.5.0) leaves out their attention, too, where a
 * file says that there is no feed-forward.
 */
function withWidths(model: Model): Model {
  const { architecture, hidden } = { ...model, hidden: model.config.hidden };
  const layers = model.config.layers.map((plan) => ({
    ...plan,
    intermediate: plan.intermediate || emptyWidth,
  }));
  const config = { ...model.config, layers };
  const [matrices, vectors] = [new Map(model.matrices), new Map(model.vectors)];
  for (const [layer, { intermediate }] of model.config.layers.entries()) {
    if (intermediate > 0) continue;
    const { norms, writers } = architecture.structure(config, layer);
    const { weight, readers } = norms.at(-1)!;
    vectors.set(weight, stored('float32', [hidden], new Float32Array(hidden).fill(1)));
    const zeros = (rows: number, columns: number) =>
      denseValues(new Float32Array(rows * columns), rows, columns);
    for (const { matrix } of readers) matrices.set(matrix, zeros(emptyWidth, hidden));
    matrices.set(writers.at(-1)!.matrix, zeros(hidden, emptyWidth));
  }
  return { ...model, config, matrices, vectors };
}

/** The rotation of layers that see everything, or of all. */
const ropeOf = ({ layers }: Configuration): RopePlan | undefined =>
  (layers.find(({ rope, window }) => rope && window === undefined) ?? layers.find(({ rope }) => rope))?.rope;

/** What llama.cpp takes for granted. */
function checkPlan({ config, source }: Model, { own }: GgufFamily): void {
  const sizes = new Set(config.layers.map(({ headSize }) => headSize));
  const refuse = (what: string, expected: string, found: unknown) => {
    throw new LapidaryError({
      what,
      where: source,
      expected,
      found: String(found),
      fix: 'write another format',
    });
  };
  const ropes = ropesOf(config.layers);
  const kind = ropeOf(config)?.scaling?.type ?? 'default';
  if (!['default', 'linear', 'llama3'].includes(kind) || ropes.some(({ share }) => share !== undefined))
    refuse(
      'rotary positions that are not written as GGUF here',
      'default, linear or llama3, of whole heads',
      kind,
    );
  if (ropes.length > 1 && !own?.ropes)
    refuse('rotary positions that differ by layer', 'one rotation for all', ropes.length);
  if (sizes.size > 1) refuse('heads of several sizes, which llama.cpp does not compute', 'one', [...sizes]);
  const activation = config.json.activation_function ?? 'gelu_new';
  if (
    config.modelType === 'gpt2' &&
    !['gelu_new', 'gelu_pytorch_tanh', 'gelu_fast'].includes(String(activation))
  )
    refuse('an activation that llama.cpp does not compute in GPT-2', 'gelu_new', activation);
}

function modelKeys(model: Model, family: GgufFamily, { name, floats, fileType }: GgufOptions) {
  const { config } = model;
  const key = (suffix: string) => `${family.architecture}.${suffix}`;
  const eachLayer = (value: (layer: LayerPlan) => number): GgufValue => {
    const values = config.layers.map(value);
    return new Set(values).size === 1 ? u32(values[0]) : { type: 'array', of: 'uint32', values };
  };
  const keys: [string, GgufValue][] = [
    ['general.architecture', text(family.architecture)],
    ['general.type', text('model')],
    ['general.name', text(name)],
    ['general.file_type', u32(fileType ?? { F32: 0, F16: 1, BF16: 32 }[floats])],
    ['general.quantization_version', u32(2)],
    [key('block_count'), u32(config.layers.length)],
    [key('context_length'), u32(config.context)],
    [key('embedding_length'), u32(config.hidden)],
    [key('feed_forward_length'), eachLayer((layer) => layer.intermediate)],
    [key('attention.head_count'), eachLayer((layer) => layer.heads)],
    [key(family.epsilonKey), f32(config.normEpsilon)],
    [key('vocab_size'), u32(config.vocabulary)],
  ];
  for (const [suffix, value] of family.own?.write(config, model.source) ?? [])
    keys.push([key(suffix), value]);
  const rope = ropeOf(config);
  if (!rope) return keys;
  const { headSize } = config.layers[0];
  keys.push(
    [key('attention.head_count_kv'), eachLayer((layer) => layer.keyValueHeads)],
    [key('attention.key_length'), u32(headSize)],
    [key('attention.value_length'), u32(headSize)],
    [key('rope.dimension_count'), u32(headSize)],
    [key('rope.freq_base'), f32(rope.theta)],
  );
  if (rope.scaling?.type === 'linear')
    keys.push(
      [key('rope.scaling.type'), text('linear')],
      [key('rope.scaling.factor'), f32(rope.scaling.factor)],
    );
  return keys;
}

function vocabularyKeys(words: GgufVocabulary): [string, GgufValue][] {
  const keys: [string, GgufValue | undefined][] = [
    ['model', text(words.model)],
    ['pre', words.pre === undefined ? undefined : text(words.pre)],
    ['tokens', { type: 'array', of: 'string', values: words.tokens }],
    ['token_type', words.types && { type: 'array', of: 'int32', values: words.types }],
    ['scores', words.scores && { type: 'array', of: 'float32', values: words.scores }],
    ['merges', words.merges && { type: 'array', of: 'string', values: words.merges }],
    ['bos_token_id', optional(words.bos)],
    ['eos_token_id', optional(words.eos)],
    ['eot_token_id', optional(words.endOfTurn)],
    ['eom_token_id', optional(words.endOfMessage)],
    ['unknown_token_id', optional(words.unknown)],
    ['padding_token_id', optional(words.padding)],
    ['add_bos_token', flag(words.addBos)],
    ['add_space_prefix', flag(words.addSpacePrefix)],
  ];
  const present = keys.flatMap(([name, value]): [string, GgufValue][] =>
    value === undefined ? [] : [[`tokenizer.ggml.${name}`, value]],
  );
  return [...present, ...templateKeys(words)];
}

/** As gguf-py writes them; llama.cpp asks for one by its name ("tool_use"). */
function templateKeys({ chatTemplate, namedTemplates }: GgufVocabulary): [string, GgufValue][] {
  const key = 'tokenizer.chat_template';
  const named = new Map(
    [...(namedTemplates ?? [])].map(([name, template]) => [name.replace(/[^A-Za-z0-9]/g, '_'), template]),
  );
  return [
    ...[...named].map(([name, template]): [string, GgufValue] => [`${key}.${name}`, text(template)]),
    ...(named.size === 0
      ? []
      : [[`${key}s`, { type: 'array', of: 'string', values: [...named.keys()] }] as [string, GgufValue]]),
    ...(chatTemplate === undefined ? [] : [[key, text(chatTemplate)] as [string, GgufValue]]),
  ];
}

/** As gguf-py writes them: the terms, and the model that this one was made of. */
function originKeys({ origin = {} }: GgufOptions): [string, GgufValue][] {
  const { license, licenseName, licenseLink, baseModel } = origin;
  const [organization, name] = baseModel?.split('/') ?? [];
  const keys: [string, string | undefined][] = [
    ['license', license],
    ['license.name', licenseName],
    ['license.link', licenseLink],
    ['base_model.0.name', name && title(name)],
    ['base_model.0.organization', organization && title(organization)],
    ['base_model.0.repo_url', baseModel && `https://huggingface.co/${baseModel}`],
  ];
  const known = keys.flatMap(([key, value]): [string, GgufValue][] =>
    value ? [[`general.${key}`, text(value)]] : [],
  );
  return baseModel === undefined ? known : [...known, ['general.base_model.count', u32(1)]];
}

/** "smollm-135m" as "Smollm 135m": words in small letters begin with a large one, versions and sizes stay. */
const title = (id: string): string =>
  id
    .split(/[-\s]+/)
    .filter(Boolean)
    .map((word) =>
      word === word.toLowerCase() && !/^(v\d+(\.\d+)*|\d.*)$/.test(word)
        ? word.replace(/\p{L}+/gu, (letters) => letters[0]!.toUpperCase() + letters.slice(1))
        : word,
    )
    .join(' ');

/** As llama-quantize writes them. */
function importanceKeys({ importance }: GgufOptions): [string, GgufValue][] {
  if (!importance) return [];
  const { file, imatrix } = importance;
  const [dataset] = imatrix.datasets;
  return [
    ['quantize.imatrix.file', text(file)],
    ...(dataset === undefined ? [] : [['quantize.imatrix.dataset', text(dataset)] as [string, GgufValue]]),
    ['quantize.imatrix.entries_count', u32(imatrix.entries.size)],
    ...(imatrix.chunks
      ? [['quantize.imatrix.chunks_count', u32(imatrix.chunks)] as [string, GgufValue]]
      : []),
  ];
}

const text = (value: string): GgufValue => ({ type: 'string', value });
const u32 = (value: number): GgufValue => ({ type: 'uint32', value });
const f32 = (value: number): GgufValue => ({ type: 'float32', value });
const flag = (value: boolean | undefined): GgufValue | undefined =>
  value === undefined ? undefined : { type: 'bool', value };
const optional = (value: number | undefined) => (value === undefined ? undefined : u32(value));

function tensorsOf(model: Model, family: GgufFamily, floats: FloatType): ReadonlyMap<string, WritableTensor> {
  const tensors = new Map<string, WritableTensor>();
  const nameOf = (ours: string, suffix: string) => {
    const found = family.theirs(ours);
    if (found === undefined) throw new Error(`no GGUF name for ${ours}`);
    return `${found}.${suffix}`;
  };
  const { layers } = model.config;
  const rope = ropeOf(model.config);
  if (rope?.scaling?.type === 'llama3') {
    const factors = llama3Factors(rope.scaling, rope.theta, layers[0].headSize);
    const tensor = stored('float32', [factors.length], factors);
    tensors.set('rope_freqs.weight', { ...tensor, type: ggmlType('F32') });
  }
  const experts = new Map<string, WritableTensor[]>();
  for (const [name, encoding] of model.matrices) {
    const gguf = nameOf(name, 'weight');
    // Positions are looked up and added: llama.cpp wants them whole.
    const type = gguf === 'position_embd.weight' ? 'F32' : floats;
    const tensor = inOrder(matrix(encoding, type), family, model, name);
    const expert = expertOf(name);
    if (expert === undefined) {
      tensors.set(gguf, tensor);
      continue;
    }
    const all = experts.get(gguf) ?? [];
    experts.set(gguf, all);
    all[expert] = tensor;
  }
  for (const [gguf, all] of experts) tensors.set(gguf, together(gguf, all));
  for (const [name, vector] of model.vectors) {
    const [, stem, suffix] = /^(.+)\.(weight|bias)$/.exec(name)!;
    const { shape } = vector;
    const offset = stem.endsWith('norm') ? family.normOffset : 0;
    const bytes = () =>
      new Uint8Array(toFloat32(vector).map((value) => value + offset).buffer as ArrayBuffer);
    const tensor = { type: ggmlType('F32'), shape, byteLength: 4 * elementCount(shape), bytes };
    tensors.set(nameOf(stem, suffix), inOrder(tensor, family, model, stem));
  }
  return tensors;
}

/** The matrices of all experts as one tensor. @throws LapidaryError where they are of several types */
function together(name: string, all: readonly WritableTensor[]): WritableTensor {
  const [{ type, shape }] = all;
  const other = all.find((each) => each.type.id !== type.id);
  if (other)
    throw new LapidaryError({
      what: 'experts of one layer in several types, which GGUF holds in one tensor',
      where: name,
      expected: type.name,
      found: other.type.name,
      fix: 'give all experts of a layer the same method and bits',
    });
  const byteLength = all.reduce((sum, each) => sum + each.byteLength, 0);
  const bytes = () => {
    const joined = new Uint8Array(byteLength);
    let at = 0;
    for (const each of all) {
      joined.set(each.bytes(), at);
      at += each.byteLength;
    }
    return joined;
  };
  return { type, shape: [all.length, ...shape], byteLength, bytes };
}

function matrix(encoding: Encoding, floats: FloatType): WritableTensor {
  const { shape } = encoding;
  const blocks = encoding.tensors.get('blocks');
  if (blocks && blockTypes.byName.has(encoding.label))
    return { type: ggmlType(encoding.label), shape, byteLength: blocks.byteLength, bytes: blocks.bytes };
  const type = ggmlType(floats);
  const bytes = () => {
    const values = encoding.dense();
    const converted =
      floats === 'F32' ? values : floats === 'F16' ? floatToHalf(values) : floatToBfloat(values);
    return new Uint8Array(converted.buffer as ArrayBuffer);
  };
  return { type, shape, byteLength: type.bytes * elementCount(shape), bytes };
}

/** Rows of query and key as llama.cpp rotates them. */
function inOrder(
  tensor: WritableTensor,
  family: GgufFamily,
  { config }: Model,
  name: string,
): WritableTensor {
  const [, layer, part] = /\.(\d+)\.self_attn\.([qk])_proj$/.exec(name) ?? [];
  if (!family.adjacentPairs || part === undefined) return tensor;
  const plan = config.layers[Number(layer)];
  const heads = part === 'q' ? plan.heads : plan.keyValueHeads;
  return { ...tensor, bytes: () => inPairs(tensor.bytes(), tensor.shape[0], heads) };
}
