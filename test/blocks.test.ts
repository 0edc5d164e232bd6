/** Block types against ggml's own code, bit for bit: by goldens, and where llama.cpp is installed, by running it. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../src/base/half.ts';
import { blockTypes } from '../src/encodings/blocks/index.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import type { Goldens } from './blocks-cases.ts';
import { blockCount, blocks256, blocks32, columns, digest, importance } from './blocks-cases.ts';
import { askGgml, hasGgml } from './blocks-ggml.ts';

const types = [...blockTypes.byId.values()];
const goldens = JSON.parse(
  readFileSync(join(import.meta.dirname, 'goldens', 'blocks.json'), 'utf8'),
) as Goldens;

/** The first blocks that differ; none of them should. */
function differing(found: Uint8Array, expected: Uint8Array, size: number): number[] {
  const bad = new Set<number>();
  for (let at = 0; at < Math.max(found.length, expected.length) && bad.size < 5; at++) {
    if (found[at] !== expected[at]) bad.add(Math.floor(at / size));
  }
  return [...bad];
}

/** All matrices of a checkpoint, rows filled up with zeros to `columns`. */
function matricesOf(path: string, columns: number): Float32Array {
  const rows: Float32Array[] = [];
  for (const tensor of openSafetensors(path).tensors.values()) {
    if (tensor.shape.length !== 2) continue;
    const values = toFloat32(tensor);
    const width = tensor.shape[1];
    for (let at = 0; at < values.length && rows.length < 1000; at += width) {
      for (let from = 0; from < width; from += columns) {
        const row = new Float32Array(columns);
        row.set(values.subarray(at + from, at + Math.min(from + columns, width)));
        rows.push(row);
      }
    }
  }
  const all = new Float32Array(rows.length * columns);
  rows.forEach((row, i) => all.set(row, i * columns));
  return all;
}

describe.each(types.map((type) => [type.name, type] as const))('%s', (name, type) => {
  const values = type.size === 32 ? blocks32 : blocks256;

  it.each([
    ['plain', undefined],
    ['weighted', importance],
  ] as const)(`gives the bytes that ggml gave for ${blockCount} blocks, %s`, async (which, weights) => {
    const blocks = await type.quantizeFast(values, columns, weights, 2);
    expect(Buffer.from(blocks.subarray(0, type.bytes)).toString('base64')).toBe(goldens[name][which].first);
    expect(digest(blocks)).toBe(goldens[name][which].sha256);
  });

  it('gives the same without the kernels', async () => {
    const some = values.subarray(0, 512 * type.size);
    for (const weights of [undefined, importance]) {
      const expected = await type.quantizeFast(some, columns, weights, 1);
      expect(differing(type.quantize(some, columns, weights), expected, type.bytes)).toEqual([]);
    }
  });
});

describe.skipIf(!hasGgml)('beside ggml (if test/engines/llama is installed)', () => {
  const sources: [string, () => Float32Array, number][] = [
    ['random blocks', () => blocks256, columns],
    ['pebble', () => matricesOf('models/pebble/model.safetensors', 256), 256],
    ['stories260K', () => matricesOf('../shared/models/stories260K-hf/model.safetensors', 256), 256],
  ];
  it.each(
    sources.filter(
      ([source]) =>
        source !== 'stories260K' || existsSync('../shared/models/stories260K-hf/model.safetensors'),
    ),
  )('every type encodes and decodes the weights of %s as it does', async (_, read, columns) => {
    const values = read();
    const weights = importance.slice(0, columns);
    const jobs = types.flatMap((type) =>
      [undefined, weights].map((importance) => ({ type, values, columns, importance })),
    );
    const answers = askGgml(jobs);
    for (const [i, { type, importance }] of jobs.entries()) {
      const blocks = await type.quantizeFast(values, columns, importance, 2);
      expect(differing(blocks, answers[i].blocks, type.bytes), type.name).toEqual([]);
      const back = type.dequantize(answers[i].blocks);
      expect(
        back.every((value, at) => value === answers[i].values[at] || Number.isNaN(value)),
        type.name,
      ).toBe(true);
    }
  });
});
