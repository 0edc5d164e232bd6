/** A Llama of random weights, 768 wide, 4 layers, vocabulary 8192, with all matrices in any encoding that the export writes. */

import { random } from '../../src/base/random.ts';
import { stored } from '../../src/base/tensor.ts';
import { binary } from '../../src/encodings/binary.ts';
import { quantizeTo } from '../../src/encodings/blocks/encoding.ts';
import { blockTypes } from '../../src/encodings/blocks/table.ts';
import { withColumns, withSparse } from '../../src/encodings/composite.ts';
import { denseValues } from '../../src/encodings/dense.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import type { GroupSize } from '../../src/encodings/grouped.ts';
import { grouped, groupsOf } from '../../src/encodings/grouped.ts';
import { integers } from '../../src/encodings/integer.ts';
import { levels, numberNames } from '../../src/encodings/levels.ts';
import { numberFormats } from '../../src/encodings/levels/numbers.ts';
import { roundedActivations } from '../../src/encodings/rounded.ts';
import { shifted } from '../../src/encodings/shifted.ts';
import type { ExportOptions } from '../../src/export/graph.ts';
import { llama } from '../../src/models/architectures/llama.ts';
import type { Model } from '../../src/models/model.ts';

const config = llama.configure({
  model_type: 'llama',
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 4,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  vocab_size: 8192,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
});
const { integer, uniform } = random(1);

export type Encode = (rows: number, columns: number) => Encoding | Promise<Encoding>;
export interface Contender {
  readonly name: string;
  readonly encode: Encode;
  readonly options?: ExportOptions;
}

const floats = (count: number, most: number) =>
  Float32Array.from({ length: count }, () => (uniform() - 0.5) * 2 * most);
const positive = (count: number) => Float32Array.from({ length: count }, () => (1 + integer(63)) / 2 ** 12);
const codesBelow = (count: number, end: number) => Uint8Array.from({ length: count }, () => integer(end));

export const plain: Encode = (rows, columns) => denseValues(floats(rows * columns, 0.06), rows, columns);

export const integersInGroups =
  (bits: 2 | 3 | 4 | 8, group: GroupSize, zeroPoints: boolean) =>
  (rows: number, columns: number): Encoding => {
    const count = rows * groupsOf({ columns, group });
    return grouped({
      rows,
      columns,
      bits,
      group,
      codes: codesBelow(rows * columns, 2 ** bits),
      scales: positive(count),
      zeros: zeroPoints ? codesBelow(count, 2 ** bits) : undefined,
    });
  };

const withOffsets =
  (bits: 2 | 4 | 8): Encode =>
  (rows, columns) => {
    const base = integersInGroups(bits, 32, false)(rows, columns);
    const packed = base.tensors.get('codes')!.bytes();
    const count = rows * groupsOf({ columns, group: 32 });
    return shifted(
      { rows, columns, bits, group: 32, packed, scales: positive(count) },
      floats(count, 0.5).map((value) => Math.round(value * 256) / 256),
    );
  };

const inNumbers =
  (numbers: (typeof numberNames)[number]): Encode =>
  (rows, columns) => {
    const format = numberFormats.get(numbers)!;
    const { group, values, scale } = format;
    const fine = [...values.keys()].filter((code) => Number.isFinite(values[code]));
    const count = group === 'tensor' ? 1 : rows * groupsOf({ columns, group: group as GroupSize });
    const codes = Uint8Array.from({ length: rows * columns }, () => fine[integer(fine.length)]!);
    const scales =
      scale === 'float'
        ? { scales: positive(count) }
        : { scaleCodes: new Uint8Array(count).fill(scale === 'e4m3' ? 56 : 120) };
    return levels({
      numbers,
      rows,
      columns,
      group,
      codes,
      ...scales,
      ...(scale === 'e4m3' ? { global: 64 } : {}),
    });
  };

const inSigns =
  (planes: 1 | 2): Encode =>
  (rows, columns) =>
    binary({
      rows,
      columns,
      group: 64,
      planes: Array.from({ length: planes }, () => ({
        signs: codesBelow(rows * columns, 2),
        scales: positive(rows * groupsOf({ columns, group: 64 })),
      })),
    });

export const eightByEight =
  (input?: number): Encode =>
  (rows, columns) =>
    integers({
      rows,
      columns,
      codes: Int8Array.from({ length: rows * columns }, () => integer(255) - 127),
      scales: positive(rows),
      input,
    });

const keptColumns =
  (base: Encode, share: number): Encode =>
  async (rows, columns) => {
    const count = Math.ceil(columns * share);
    const which = Int32Array.from({ length: count }, (_, i) => Math.floor((i * columns) / count));
    return withColumns(await base(rows, columns), { columns: which, values: floats(count * rows, 0.1) });
  };

const keptWeights =
  (base: Encode, share: number): Encode =>
  async (rows, columns) => {
    const each = Math.ceil(columns * share);
    return withSparse(await base(rows, columns), {
      starts: Int32Array.from({ length: rows + 1 }, (_, row) => row * each),
      columns: Int32Array.from({ length: rows * each }, (_, i) => Math.floor(((i % each) * columns) / each)),
      values: floats(rows * each, 0.1),
    });
  };

export const four = integersInGroups(4, 32, true);

const inGroups = (bits: 2 | 3 | 4 | 8, group: GroupSize): Contender[] =>
  [false, true].map((zeroPoints) => ({
    name: `${bits} bits, ${group === -1 ? 'whole rows' : `group ${group}`}${zeroPoints ? ', zero points' : ''}`,
    encode: integersInGroups(bits, group, zeroPoints),
  }));

export const contenders: readonly Contender[] = [
  ...([2, 3, 4, 8] as const).flatMap((bits) => [...inGroups(bits, 32), ...inGroups(bits, -1)]),
  ...inGroups(2, 16),
  ...inGroups(2, 256),
  { name: '4 bits, level 4', encode: four, options: { accuracyLevel: 4 } },
  { name: '4 bits, float16', encode: four, options: { activations: 'float16' } },
  { name: '4 bits, qdq', encode: four, options: { products: 'qdq' } },
  { name: '8 bits, qdq', encode: integersInGroups(8, 32, false), options: { products: 'qdq' } },
  { name: '8 bits, whole rows, qdq', encode: integersInGroups(8, -1, false), options: { products: 'qdq' } },
  ...([2, 4, 8] as const).map((bits) => ({ name: `${bits} bits, offsets`, encode: withOffsets(bits) })),
  { name: '4 bits, offsets, level 4', encode: withOffsets(4), options: { accuracyLevel: 4 } },
  ...numberNames.map((numbers) => ({ name: numbers, encode: inNumbers(numbers) })),
  { name: 'binary, one plane', encode: inSigns(1) },
  { name: 'binary, two planes', encode: inSigns(2) },
  { name: 'w8a8', encode: eightByEight() },
  { name: 'w8a8, static', encode: eightByEight(0.05) },
  { name: 'w4a8', encode: (rows, columns) => roundedActivations(four(rows, columns), { bits: 8 }) },
  { name: 'w8a8, 1% columns', encode: keptColumns(eightByEight(), 0.01) },
  { name: '4 bits, 1% columns', encode: keptColumns(four, 0.01) },
  { name: '4 bits, 1% weights', encode: keptWeights(four, 0.01) },
  ...[...blockTypes.byName.keys()].map((name) => ({
    name,
    encode: (rows: number, columns: number) =>
      quantizeTo({ name }, { rows, columns, values: floats(rows * columns, 0.06) }),
  })),
];

/** Random weights in an encoding; the config says their shapes. */
export async function modelOf(encode: Encode): Promise<Model> {
  const { hidden, vocabulary, layers } = config;
  const ones = stored('float32', [hidden], new Float32Array(hidden).fill(1));
  const matrices = new Map([['model.embed_tokens', await encode(vocabulary, hidden)]]);
  const vectors = new Map([['model.norm.weight', ones]]);
  for (const [i, { heads, keyValueHeads, headSize, intermediate }] of layers.entries()) {
    const name = llama.layerName(i);
    const add = async (part: string, rows: number, columns: number) =>
      matrices.set(`${name}.${part}`, await encode(rows, columns));
    await add('self_attn.q_proj', heads * headSize, hidden);
    await add('self_attn.k_proj', keyValueHeads * headSize, hidden);
    await add('self_attn.v_proj', keyValueHeads * headSize, hidden);
    await add('self_attn.o_proj', hidden, heads * headSize);
    await add('mlp.gate_proj', intermediate, hidden);
    await add('mlp.up_proj', intermediate, hidden);
    await add('mlp.down_proj', hidden, intermediate);
    for (const norm of ['input_layernorm', 'post_attention_layernorm'])
      vectors.set(`${name}.${norm}.weight`, ones);
  }
  return { architecture: llama, config, matrices, vectors, files: new Map(), source: 'random' };
}
