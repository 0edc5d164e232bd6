/**
 * The form in GGUF: tensors "WEIGHT.in_sum2" [columns] and "WEIGHT.counts" [1], of experts [experts, columns] and
 * [experts, 1]. What newer versions of llama-imatrix put beside them is let be.
 */

import { LapidaryError } from '../../base/errors.ts';
import { ggmlType } from '../../base/ggml.ts';
import { countAt, textAt, textsAt } from '../gguf/metadata.ts';
import type { GgufFile, GgufTensor } from '../gguf/read.ts';
import { openGguf } from '../gguf/read.ts';
import type { GgufMetadata } from '../gguf/types.ts';
import type { WritableTensor } from '../gguf/write.ts';
import { writeGguf } from '../gguf/write.ts';
import { checkedEntry, damaged } from './check.ts';
import type { Imatrix, ImatrixEntry, WritableImatrix } from './entries.ts';

const keys = {
  datasets: 'imatrix.datasets',
  chunks: 'imatrix.chunk_count',
  chunkSize: 'imatrix.chunk_size',
};
const [sumsSuffix, countsSuffix] = ['.in_sum2', '.counts'];

/** @throws LapidaryError on a file that is no importance matrix, or has sums or counts that cannot be */
export function readGgufForm(path: string): Imatrix {
  const file = openGguf(path);
  const { metadata, tensors } = file;
  const type = textAt(metadata, 'general.type');
  const names = [...tensors.keys()].filter((name) => name.endsWith(sumsSuffix));
  if ((type !== undefined && type !== 'imatrix') || names.length === 0) {
    throw new LapidaryError({
      what: 'this GGUF file is no importance matrix',
      where: path,
      expected: `tensors WEIGHT${sumsSuffix} and WEIGHT${countsSuffix}`,
      found: type === undefined ? `${tensors.size} other tensors` : `a file of the type "${type}"`,
      fix: 'make one from a model and a text: lapidary imatrix MODEL --data text.txt',
    });
  }
  return {
    entries: new Map(
      names.map((name) => {
        const weight = name.slice(0, -sumsSuffix.length);
        return [weight, readEntry(file, weight)];
      }),
    ),
    datasets: textsAt(metadata, keys.datasets) ?? [],
    chunks: metadata.has(keys.chunks) ? countAt(metadata, keys.chunks, 0) : undefined,
    chunkSize: metadata.has(keys.chunkSize) ? countAt(metadata, keys.chunkSize, 0) : undefined,
  };
}

function readEntry({ path, tensors }: GgufFile, weight: string): ImatrixEntry {
  const sums = tensors.get(`${weight}${sumsSuffix}`)!;
  const counts = tensors.get(`${weight}${countsSuffix}`);
  if (!counts) {
    const what = `"${weight}" has sums and no counts`;
    throw damaged(path, what, `a tensor ${weight}${countsSuffix}`, 'none of that name');
  }
  const other = [sums, counts].find(({ type }) => type.name !== 'F32');
  if (other) throw damaged(path, `sums or counts of "${weight}" in another type`, 'F32', other.type.name);
  const experts = sums.shape.length === 1 ? 1 : sums.shape[0];
  const counted = counts.shape.reduce((a, b) => a * b);
  if (sums.shape.length > 2 || counted !== experts) {
    const found = `[${counts.shape.join(', ')}] for [${sums.shape.join(', ')}]`;
    throw damaged(path, `sums and counts of "${weight}" do not fit`, 'a count for each row of sums', found);
  }
  return checkedEntry(path, weight, { sums: floats(sums), counts: floats(counts) });
}

/** Copied, so that they lie where floats must. */
const floats = (tensor: GgufTensor): Float32Array => new Float32Array(tensor.bytes().slice().buffer);

export async function writeGgufForm(path: string, imatrix: WritableImatrix): Promise<void> {
  const { entries, datasets, chunks, chunkSize } = imatrix;
  const metadata: GgufMetadata = new Map([
    ['general.type', { type: 'string', value: 'imatrix' }],
    [keys.datasets, { type: 'array', of: 'string', values: datasets }],
    [keys.chunks, { type: 'uint32', value: chunks }],
    [keys.chunkSize, { type: 'uint32', value: chunkSize }],
  ]);
  const tensors = [...entries].flatMap(([name, { sums, counts }]) => {
    const [experts, columns] = [counts.length, sums.length / counts.length];
    const of = (width: number) => (experts > 1 ? [experts, width] : [width]);
    return [
      [`${name}${sumsSuffix}`, tensorOf(sums, of(columns))],
      [`${name}${countsSuffix}`, tensorOf(counts, of(1))],
    ] as const;
  });
  await writeGguf(path, metadata, new Map(tensors));
}

const tensorOf = (values: Float32Array, shape: readonly number[]): WritableTensor => ({
  type: ggmlType('F32'),
  shape,
  byteLength: values.byteLength,
  bytes: () => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});
