/** What to do where config.json says that the head is the embedding, but the file has a head of its own. */

import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Architecture, Configuration } from './model.ts';

/** What is stored under a matrix's name. */
export interface StoredMatrices {
  tensor(name: string): Stored | undefined;
  encoding(name: string): Encoding | undefined;
}

/** The configuration with the head that counts: the file's, where it differs from the embedding, as in transformers 5. */
export function withOwnHead(
  config: Configuration,
  architecture: Architecture,
  stored: StoredMatrices,
  source: string,
  warn: (line: string) => void,
): Configuration {
  if (!config.tiedHead) return config;
  const untied = { ...config, tiedHead: false, json: { ...config.json, tie_word_embeddings: false } };
  const matrixOf = (of: Configuration) => architecture.around(of).norm.readers[0].matrix;
  const [embedding, head] = [matrixOf(config), matrixOf(untied)];
  const [own, other] = [partsOf(stored, head), partsOf(stored, embedding)];
  if (own.size === 0 || sameParts(own, other)) return config;
  warn(
    `${source}: config.json says that the head is the embedding, but the file holds another, ${head}.weight: this one counts, as in transformers 5, and what is written says "tie_word_embeddings": false`,
  );
  return untied;
}

function partsOf(stored: StoredMatrices, name: string): ReadonlyMap<string, Stored> {
  const tensor = stored.tensor(name);
  return stored.encoding(name)?.tensors ?? new Map(tensor ? [['weight', tensor]] : []);
}

function sameParts(a: ReadonlyMap<string, Stored>, b: ReadonlyMap<string, Stored>): boolean {
  return a.size === b.size && [...a].every(([suffix, tensor]) => sameValues(tensor, b.get(suffix)));
}

function sameValues(a: Stored, b: Stored | undefined): boolean {
  if (!b || a.shape.join() !== b.shape.join()) return false;
  if (a.dtype === b.dtype) return Buffer.compare(a.bytes(), b.bytes()) === 0;
  const [left, right] = [toFloat32(a), toFloat32(b)];
  return left.every((value, i) => value === right[i]);
}
