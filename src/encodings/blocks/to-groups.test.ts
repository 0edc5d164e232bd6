/** Blocks of ggml become grouped integers and, where a format holds them, other checkpoints' tensors: to the bit. */

import { describe, expect, it } from 'vitest';
import { random } from '../../base/random.ts';
import { checkMlxExact, mlxTensors } from '../../export/safetensors/mlx.ts';
import { gptqTensors } from '../../export/safetensors/gptq.ts';
import { awqTensors } from '../../export/safetensors/awq.ts';
import { awqEncoding } from '../../models/quantized/awq.ts';
import { gptqEncoding } from '../../models/quantized/gptq.ts';
import { mlxEncoding } from '../../models/quantized/mlx.ts';
import { equalValues } from '../affine.ts';
import type { Encoding } from '../encoding.ts';
import { restore } from '../restore.ts';
import { blocksOf, blockTypes, inGroups, quantizeTo } from './index.ts';

const [rows, columns] = [32, 512];

/** Weights of many sizes, some rows of one sign: minima are then far from whole numbers of scales. */
function weights(): Float32Array {
  const { normal } = random(5);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const row = Math.floor(i / columns);
    const value = 0.02 * (1 + (row % 7)) * normal();
    return row % 3 === 0 ? Math.abs(value) + 0.01 : value;
  });
}
const matrix = (type: string): Promise<Encoding> =>
  quantizeTo({ name: type }, { rows, columns, values: weights() });

describe('blocks as grouped integers', () => {
  it.each([...blockTypes.byName.keys()])('%s: every value the same, also restored', async (type) => {
    const blocks = await matrix(type);
    const found = inGroups(blocks);
    expect(found.description.kind).not.toBe('blocks');
    expect(equalValues(found.dense(), blocks.dense())).toBe(true);
    expect(equalValues(restore(found).dense(), blocks.dense())).toBe(true);
  });

  it.each(['Q4_0', 'Q4_1', 'Q5_1', 'Q8_0'])('%s and back: the values of the same type', async (type) => {
    const blocks = await matrix(type);
    const again = blocksOf(inGroups(blocks));
    expect(again.label).toBe(type);
    expect(equalValues(again.dense(), blocks.dense())).toBe(true);
  });
});

describe('what other formats hold of them', () => {
  it.each(['Q4_0', 'Q4_1', 'Q8_0'])('MLX: %s', async (type) => {
    const blocks = await matrix(type);
    const found = inGroups(blocks);
    expect(() => checkMlxExact(found)).not.toThrow();
    const read = mlxEncoding(mlxTensors(found)!, { bits: found.bits, group: 32 });
    expect(equalValues(read.dense(), blocks.dense())).toBe(true);
    expect(equalValues(blocksOf(read).dense(), blocks.dense())).toBe(true);
  });

  it('not MLX: scales that float16 does not hold', async () => {
    expect(() => checkMlxExact(inGroups(quantized))).toThrow('scales that float16 holds');
  });

  it.each(['Q4_0', 'Q8_0'])('GPTQ: %s', async (type) => {
    const blocks = await matrix(type);
    const found = inGroups(blocks);
    const bits = found.bits as 4 | 8;
    const read = gptqEncoding(gptqTensors(found, { version: 1 })!, { bits, group: 32, version: 1 });
    expect(equalValues(read.dense(), blocks.dense())).toBe(true);
    expect(blocksOf(read).label).toBe(type);
  });

  it('AWQ: Q4_0', async () => {
    const blocks = await matrix('Q4_0');
    const read = awqEncoding(awqTensors(inGroups(blocks), { group: 32 })!, { group: 32 });
    expect(equalValues(read.dense(), blocks.dense())).toBe(true);
  });
});

const quantized = await matrix('Q4_K');
