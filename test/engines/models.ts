/** Models that the tests of engines export: tiny random ones, and compressed versions of them. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { toFloat32 } from '../../src/base/half.ts';
import type { ScaleType } from '../../src/encodings/grid.ts';
import { openCheckpoint } from '../../src/io/checkpoint.ts';
import { openSafetensors } from '../../src/io/safetensors/read.ts';
import { rtn } from '../../src/methods/quantize/rtn.ts';
import { loadModel } from '../../src/models/index.ts';
import type { Model } from '../../src/models/model.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';

/** Tiny models of test/models, each of an architecture or with a trait's odd value. */
export const architectures = readdirSync('test/models').filter((name) =>
  existsSync(`test/models/${name}/expected.safetensors`),
);
export type Golden = string;

const folderOf = (name: Golden) => `test/models/${name}`;

export async function openGolden(name: Golden): Promise<Model> {
  return loadModel(await openCheckpoint(folderOf(name)));
}

export function modelTypeOf(name: Golden): string {
  return JSON.parse(readFileSync(`${folderOf(name)}/config.json`, 'utf8')).model_type as string;
}

/** What transformers computes for it: logits [2, 24, 256] of ids [2, 24]. */
export function expectedOf(name: Golden): { ids: number[][]; logits: Float32Array } {
  const { tensors } = openSafetensors(`${folderOf(name)}/expected.safetensors`);
  const all = new BigInt64Array(tensors.get('input_ids')!.bytes().slice().buffer);
  const rows = [all.subarray(0, 24), all.subarray(24)];
  return { ids: rows.map((row) => Array.from(row, Number)), logits: toFloat32(tensors.get('logits')!) };
}

const stories = '../shared/models/stories260K-hf';
export const hasStories = existsSync(stories);

export async function openStories(): Promise<Model> {
  return loadModel(await openCheckpoint(stories));
}

/** Every matrix rounded to nearest. */
export async function quantized(
  model: Model,
  bits: 2 | 3 | 4 | 8,
  group = 32,
  symmetric = true,
  scales: ScaleType = 'float16',
): Promise<Model> {
  const options = rtn.options.parse({ bits, group, symmetric, scales });
  const matrices = new Map(model.matrices);
  for (const [name, encoding] of model.matrices) {
    const [rows, columns] = encoding.shape;
    matrices.set(
      name,
      await rtn.compress({ rows, columns, values: encoding.dense() }, { tokens: 0 }, options),
    );
  }
  return { ...model, matrices };
}

/** For models without a tokenizer: ids as decimal numbers. */
export const numerals: Tokenizer = {
  vocabularySize: 256,
  tokensFrom: () => [],
  eos: [],
  encode: (text) => Int32Array.from(text.split(' ').filter(Boolean), Number),
  decode: (ids) => Array.from(ids).join(' '),
};

export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= most)) most = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return most;
}

/** A token for each byte, for models without a tokenizer; 256 of them. */
export function byteTokenizer(): Model['files'] {
  const visible = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  const characters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : 256 + others++),
  );
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const definition = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: bytes,
    post_processor: null,
    decoder: bytes,
    model: { type: 'BPE', vocab: Object.fromEntries(characters.map((text, id) => [text, id])), merges: [] },
  };
  return new Map([['tokenizer.json', () => Buffer.from(JSON.stringify(definition))]]);
}
