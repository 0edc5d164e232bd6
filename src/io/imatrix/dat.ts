/**
 * The older form, little-endian: the number of weights; of each the length of its name, the name, chunks, the number of
 * columns, and float32 means of squares times chunks; at the end, in newer files, chunks in all, and the length and name of
 * the text. Of experts all rows stand there as one.
 */

import { readRange, withFile } from '../range.ts';
import { checkedEntry, damaged } from './check.ts';
import type { Imatrix, ImatrixEntry, WritableImatrix } from './entries.ts';

/** Far above any: the sums of models with hundreds of experts take some hundreds of megabytes. */
const largestFile = 2 ** 31;
const longestName = 2 ** 10;
const longestDataset = 2 ** 16;

/** @throws LapidaryError on a file that ends early, or has lengths, sums or counts that cannot be */
export function parseDat(path: string): Imatrix {
  const bytes = withFile(path, 'importance matrix', (file, size) => {
    if (size > largestFile) throw damaged(path, 'too large a file', `at most ${largestFile} bytes`, size);
    return readRange(file, 0, size, path);
  });
  const input = reader(bytes, path);
  const count = input.length('weights', 16);
  if (count === 0) throw damaged(path, 'an importance matrix of nothing', 'at least one weight', 0);
  const entries = new Map<string, ImatrixEntry>();
  for (let i = 0; i < count; i++) {
    const name = input.text('the name of a weight', longestName);
    if (name === '' || entries.has(name))
      throw damaged(path, 'a weight without a name of its own', 'every weight once', JSON.stringify(name));
    const chunks = input.int();
    const columns = input.length(`columns of "${name}"`, 4);
    if (columns === 0) throw damaged(path, `"${name}" has no sums`, 'at least one', 0);
    const sums = new Float32Array(input.take(4 * columns).slice().buffer);
    entries.set(name, checkedEntry(path, name, { sums, counts: Float32Array.of(chunks) }));
  }
  if (input.left() === 0) return { entries, datasets: [] };
  const chunks = input.int();
  const dataset = input.left() === 0 ? '' : input.text('the name of the text', longestDataset);
  return { entries, datasets: dataset === '' ? [] : [dataset], chunks };
}

function reader(bytes: Uint8Array, path: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let at = 0;
  const left = () => bytes.byteLength - at;
  const take = (length: number): Uint8Array => {
    if (length > left())
      throw damaged(path, 'the importance matrix ends early', `${length} bytes at ${at}`, left());
    at += length;
    return bytes.subarray(at - length, at);
  };
  const int = (): number => {
    take(4);
    return view.getInt32(at - 4, true);
  };
  /** A number of things that take at least `each` bytes. */
  const length = (what: string, each: number, most = Number.POSITIVE_INFINITY): number => {
    const value = int();
    const fits = Math.min(most, Math.floor(left() / each));
    if (value < 0 || value > fits)
      throw damaged(path, `the number of ${what} cannot be`, `0 to ${fits}`, value);
    return value;
  };
  const text = (what: string, most: number): string => {
    const own = take(length(`bytes in ${what}`, 1, most));
    try {
      const decoded = utf8.decode(own);
      if (!/[\p{Cc}\p{Cs}]/u.test(decoded)) return decoded;
    } catch {
      // Told below.
    }
    const found = Buffer.from(own.subarray(0, 40)).toString('hex');
    throw damaged(path, `${what} is no text`, 'UTF-8 without control characters', found);
  };
  return { take, int, length, text, left };
}

/** Experts that no token reached count as any other column, as llama-imatrix writes them. */
export function encodeDat(imatrix: WritableImatrix): Uint8Array {
  const { entries, datasets, chunks, chunkSize } = imatrix;
  const parts: Uint8Array[] = [int32(entries.size)];
  for (const [name, { sums, counts }] of entries) {
    const calls = Math.ceil(counts.reduce((a, b) => Math.max(a, b), 0) / chunkSize);
    const columns = sums.length / counts.length;
    const means = sums.map((sum, index) => {
      const tokens = counts[Math.floor(index / columns)];
      return Math.fround(tokens === 0 ? 1 : sum / tokens) * calls;
    });
    parts.push(text(name), int32(calls), int32(means.length), new Uint8Array(means.buffer));
  }
  parts.push(int32(chunks), text(datasets.at(-1) ?? ''));
  return Buffer.concat(parts);
}

function int32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([int32(bytes.byteLength), bytes]);
}
