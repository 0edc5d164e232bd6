/**
 * Writes safetensors: one tensor in memory at a time, the same bytes for the same tensors, whole or not at all. The
 * order of the tensors is the one of the format's own library (widest type first, then by name), so that both write
 * the same file.
 */

import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { byteLength } from '../../base/tensor.ts';
import { openOutputFile, writeFileAtomic } from '../output.ts';
import { dtypeNames } from './header.ts';

export type Tensors = ReadonlyMap<string, Stored>;
export type Metadata = Readonly<Record<string, string>>;

const order: readonly string[] = Object.keys(dtypeNames);
const nameOf = new Map<DType, string>(Object.entries(dtypeNames).map(([name, dtype]) => [dtype, name]));

/** What transformers looks for before it reads a file. */
const defaultMetadata: Metadata = { format: 'pt' };

/**
 * @throws LapidaryError where the disk does not take it; Error where a tensor has no safetensors type or gives other
 *   bytes than it said.
 */
export async function writeSafetensors(
  path: string,
  tensors: Tensors,
  metadata = defaultMetadata,
): Promise<void> {
  const sorted = inOrder(tensors);
  const file = openOutputFile(path);
  try {
    file.write(headerBytes(sorted, metadata));
    for (const [name, tensor] of sorted) {
      const bytes = tensor.bytes();
      if (bytes.byteLength !== tensor.byteLength) {
        throw new Error(`tensor ${name} said ${tensor.byteLength} bytes and gave ${bytes.byteLength}`);
      }
      file.write(bytes);
      // Lets Ctrl-C and progress through between tensors.
      await setImmediate();
    }
    file.commit();
  } finally {
    file.abandon();
  }
}

const inOrder = (tensors: Tensors): [string, Stored][] =>
  [...tensors].sort(([a, first], [b, second]) => {
    return order.indexOf(typeName(a, first)) - order.indexOf(typeName(b, second)) || compareUtf8(a, b);
  });

/** Bytes of the file that `writeSafetensors` makes of these. */
function safetensorsBytes(tensors: Tensors, metadata: Metadata): number {
  const sorted = inOrder(tensors);
  return sorted.reduce(
    (sum, [, { byteLength }]) => sum + byteLength,
    headerBytes(sorted, metadata).byteLength,
  );
}

/** Bytes of the files that `writeSharded` makes of these, the index too. */
export function shardedBytes(tensors: Tensors, maxShardBytes: number, metadata = defaultMetadata): number {
  const shards = split(tensors, maxShardBytes);
  const bytes = shards.reduce((sum, shard) => sum + safetensorsBytes(shard, metadata), 0);
  return shards.length === 1 ? bytes : bytes + indexOf(shards).byteLength;
}

/**
 * Writes model.safetensors, or, where that would be longer than `maxShardBytes` of data, shards in the tensors' order with
 * their index, as transformers names them. A tensor longer than a shard gets one to itself.
 * @returns names of the files written, the index last.
 */
export async function writeSharded(
  folder: string,
  tensors: Tensors,
  maxShardBytes: number,
  metadata = defaultMetadata,
): Promise<string[]> {
  const shards = split(tensors, maxShardBytes);
  if (shards.length === 1) {
    await writeSafetensors(join(folder, 'model.safetensors'), tensors, metadata);
    return ['model.safetensors'];
  }
  const names = shardNames(shards.length);
  for (const [i, shard] of shards.entries()) await writeSafetensors(join(folder, names[i]!), shard, metadata);
  const indexName = 'model.safetensors.index.json';
  writeFileAtomic(join(folder, indexName), indexOf(shards));
  return [...names, indexName];
}

function shardNames(count: number): string[] {
  const digits = (number: number) => String(number).padStart(5, '0');
  return Array.from({ length: count }, (_, i) => `model-${digits(i + 1)}-of-${digits(count)}.safetensors`);
}

/** Which shard has which tensor, as JSON. */
function indexOf(shards: readonly Tensors[]): Buffer {
  const names = shardNames(shards.length);
  const map: [string, string][] = [];
  let total = 0;
  for (const [i, shard] of shards.entries()) {
    for (const [name, tensor] of shard) {
      map.push([name, names[i]!]);
      total += tensor.byteLength;
    }
  }
  map.sort(([a], [b]) => compareUtf8(a, b));
  const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(map) };
  return Buffer.from(`${JSON.stringify(index, null, 2)}\n`);
}

function split(tensors: Tensors, maxShardBytes: number): Map<string, Stored>[] {
  const shards = [new Map<string, Stored>()];
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    if (bytes > 0 && bytes + tensor.byteLength > maxShardBytes) {
      shards.push(new Map());
      bytes = 0;
    }
    shards.at(-1)!.set(name, tensor);
    bytes += tensor.byteLength;
  }
  return shards;
}

/** Length and JSON, padded with spaces so that the data begins at a multiple of 8. */
function headerBytes(sorted: readonly (readonly [string, Stored])[], metadata: Metadata): Uint8Array {
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    parts.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  let begin = 0;
  for (const [name, tensor] of sorted) {
    const end = begin + tensor.byteLength;
    const entry = { dtype: typeName(name, tensor), shape: tensor.shape, data_offsets: [begin, end] };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    begin = end;
  }
  const json = Buffer.from(`{${parts.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  return bytes;
}

function typeName(name: string, tensor: Stored): string {
  const type = nameOf.get(tensor.dtype);
  if (type === undefined) {
    throw new LapidaryError({
      what: `tensor "${name}": safetensors has no type for ${tensor.dtype}`,
      expected: [...nameOf.keys()].join(', '),
      found: tensor.dtype,
    });
  }
  if (name === '' || name === '__metadata__' || /[\p{Cc}\p{Cs}]/u.test(name)) {
    throw new LapidaryError({ what: `${JSON.stringify(name)} cannot name a tensor` });
  }
  if (byteLength(tensor.dtype, tensor.shape) !== tensor.byteLength) {
    throw new Error(
      `tensor ${name}: ${tensor.dtype} [${tensor.shape.join(', ')}] is not ${tensor.byteLength} bytes`,
    );
  }
  return type;
}

function compareUtf8(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
