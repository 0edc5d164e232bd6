import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { ggmlType } from '../../base/ggml.ts';
import type { GgufMetadata } from '../gguf/types.ts';
import { writeGguf } from '../gguf/write.ts';
import type { Imatrix, ImatrixEntry } from './imatrix.ts';
import { readImatrix, writeImatrix } from './imatrix.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-imatrix-'));
afterAll(() => rmSync(root, { recursive: true }));

/** Of one run of llama-imatrix. */
const golden = { gguf: 'test/goldens/imatrix-llama.gguf', dat: 'test/goldens/imatrix-llama.dat' };

const experts = new Map<string, ImatrixEntry>([
  ['blk.1.ffn_down_exps.weight', { sums: Float32Array.of(1, 2, 0, 0), counts: Float32Array.of(2, 0) }],
  ['blk.0.attn_q.weight', { sums: Float32Array.of(1, 2, 3), counts: Float32Array.of(9) }],
]);
const made = { entries: experts, datasets: ['a.txt', 'b.txt'], chunks: 3, chunkSize: 4 };

const means = ({ entries }: Imatrix) =>
  [...entries].map(([name, { sums, counts }]) => [name, sums.map((sum) => sum / counts[0])] as const);

describe('an importance matrix of llama-imatrix', () => {
  it('is read in its form in GGUF, whatever else stands there', () => {
    const found = readImatrix(golden.gguf);
    expect([...found.entries.keys()].slice(0, 2)).toEqual([
      'blk.0.attn_k.weight',
      'blk.0.attn_output.weight',
    ]);
    expect(found.entries.size).toBe(22);
    expect(found.entries.get('blk.2.ffn_down.weight')).toMatchObject({ counts: Float32Array.of(240) });
    expect(found.entries.get('blk.2.ffn_down.weight')!.sums).toHaveLength(96);
    expect(found).toMatchObject({ datasets: ['llama.txt'], chunks: 5, chunkSize: 48 });
  });

  it('says the same in the older form, which counts chunks', () => {
    const [gguf, dat] = [readImatrix(golden.gguf), readImatrix(golden.dat)];
    expect(dat).toMatchObject({ datasets: ['llama.txt'], chunks: 5 });
    expect([...dat.entries.keys()]).toEqual([...gguf.entries.keys()]);
    for (const [at, [name, values]] of means(dat).entries())
      values.forEach((value, column) =>
        expect(value / means(gguf)[at][1][column], `${name}, ${column}`).toBeCloseTo(1, 6),
      );
  });

  it('is written in the older form to the same bytes', async () => {
    const found = readImatrix(golden.gguf);
    const path = join(root, 'again.dat');
    await writeImatrix(path, { ...found, chunks: found.chunks!, chunkSize: found.chunkSize! }, 'dat');
    expect(readFileSync(path).equals(readFileSync(golden.dat))).toBe(true);
  });
});

describe('writing', () => {
  it('in GGUF keeps sums, counts by expert, and what was said of the text', async () => {
    const path = join(root, 'own');
    await writeImatrix(path, made, 'gguf');
    const { entries, ...said } = readImatrix(path);
    expect(said).toEqual({ datasets: made.datasets, chunks: 3, chunkSize: 4 });
    expect([...entries.keys()]).toEqual([...experts.keys()].toSorted());
    for (const [name, entry] of experts) expect(entries.get(name)).toEqual(entry);
  });

  it('in the older form has means for each chunk, ones where no token came, and the last text', async () => {
    const path = join(root, 'own.dat');
    await writeImatrix(path, made, 'dat');
    const { entries, ...said } = readImatrix(path);
    expect(said).toEqual({ datasets: ['b.txt'], chunks: 3 });
    const ones = { sums: Float32Array.of(0.5, 1, 1, 1), counts: Float32Array.of(1) };
    expect(entries.get('blk.1.ffn_down_exps.weight')).toEqual(ones);
    expect(entries.get('blk.0.attn_q.weight')!.counts).toEqual(Float32Array.of(3));
    expect(entries.get('blk.0.attn_q.weight')!.sums[2]).toBeCloseTo(1, 6);
  });
});

describe('files that are none', () => {
  const floats = (shape: readonly number[], ...values: number[]) => {
    const data = Float32Array.from(values);
    const bytes = () => new Uint8Array(data.buffer);
    return { type: ggmlType('F32'), shape, byteLength: data.byteLength, bytes };
  };
  const sums = floats([2], 1, 2);
  type Tensors = Parameters<typeof writeGguf>[2];
  const tensors = (other: Record<string, ReturnType<typeof floats>>): Tensors =>
    new Map(Object.entries(other));
  const model: GgufMetadata = new Map([['general.type', { type: 'string', value: 'model' }]]);

  it.each<readonly [string, Tensors, GgufMetadata, string]>([
    ['a model', tensors({ 'a.in_sum2': sums, 'a.counts': floats([1], 1) }), model, 'no importance matrix'],
    ['other tensors', tensors({ 'blk.0.attn_q.weight': sums }), new Map(), 'no importance matrix'],
    ['no counts', tensors({ 'a.in_sum2': sums }), new Map(), '"a" has sums and no counts'],
    ['two counts', tensors({ 'a.in_sum2': sums, 'a.counts': floats([2], 1, 1) }), new Map(), 'do not fit'],
    ['a count below 0', tensors({ 'a.in_sum2': sums, 'a.counts': floats([1], -1) }), new Map(), 'cannot be'],
    [
      'no number',
      tensors({ 'a.in_sum2': floats([2], 1, Number.NaN), 'a.counts': floats([1], 1) }),
      new Map(),
      'NaN in column 1',
    ],
    [
      'a sum below 0',
      tensors({ 'a.in_sum2': floats([2, 1], 1, -1), 'a.counts': floats([2, 1], 1, 1) }),
      new Map(),
      'column 0, expert 1',
    ],
  ])('in GGUF, %s', async (name, content, metadata, said) => {
    const path = join(root, `${name}.gguf`);
    await writeGguf(path, metadata, content);
    expect(() => readImatrix(path)).toThrow(said);
    expect(() => readImatrix(path)).toThrow(LapidaryError);
  });

  const int = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
  const name = (text: string) => Buffer.concat([int(Buffer.byteLength(text)), Buffer.from(text)]);
  const real = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer);
  it.each<readonly [string, Buffer, string]>([
    ['nothing', Buffer.alloc(0), 'ends early'],
    ['a text', Buffer.from('Once upon a time there was a stone.'), 'weights cannot be'],
    ['no weights', int(0), 'of nothing'],
    ['more weights than fit', int(2 ** 30), 'weights cannot be'],
    ['a name that does not end', Buffer.concat([int(1, 2 ** 20), Buffer.alloc(64)]), 'bytes in the name'],
    ['a name of control characters', Buffer.concat([int(1), name('a\n'), int(1, 1), real(1)]), 'is no text'],
    ['more columns than fit', Buffer.concat([int(1), name('a'), int(1, 2 ** 29), real(1)]), 'columns of "a"'],
    ['no columns', Buffer.concat([int(1), name('abcdefgh'), int(1, 0)]), '"abcdefgh" has no sums'],
    ['chunks below 0', Buffer.concat([int(1), name('a'), int(-1, 1), real(1)]), 'the count of "a" cannot be'],
    [
      'an infinite sum',
      Buffer.concat([int(1), name('a'), int(1, 1), real(Infinity)]),
      'Infinity in column 0',
    ],
    [
      'a weight twice',
      Buffer.concat([int(2), name('a'), int(1, 1), real(1), name('a'), int(1, 1), real(1)]),
      'a name of its own',
    ],
  ])('in the older form, %s', (kind, bytes, said) => {
    const path = join(root, `${kind}.dat`);
    writeFileSync(path, bytes);
    expect(() => readImatrix(path)).toThrow(said);
    expect(() => readImatrix(path)).toThrow(LapidaryError);
  });

  it('cut anywhere, end in an error of ours or in fewer keys', () => {
    for (const [form, path] of Object.entries(golden)) {
      const bytes = readFileSync(path);
      for (let length = 0; length < bytes.length; length += 97) {
        const cut = join(root, `cut.${form}`);
        writeFileSync(cut, bytes.subarray(0, length));
        expect(() => readImatrix(cut), `${form}, ${length}`).toThrow(LapidaryError);
      }
    }
  });
});
