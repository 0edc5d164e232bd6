import { describe, expect, it } from 'vitest';
import { random } from '../../base/random.ts';
import { roundToLevels } from '../../rounding/levels.ts';
import type { Encoding } from '../encoding.ts';
import { encodedBytes } from '../encoding.ts';
import { blocksOf } from './from-grouped.ts';

const [rows, columns] = [5, 512];
const { normal } = random(7);
const weights = Float32Array.from({ length: rows * columns }, () => 0.05 * normal());
/** 0 and -0 are one value. */
const values = (encoding: Encoding) => encoding.dense().map((value) => value + 0);

describe('number formats in blocks of ggml', () => {
  it.each([
    { numbers: 'mxfp4', type: 'MXFP4', bits: 4.25 },
    { numbers: 'ternary', group: 256, type: 'TQ2_0', bits: 2.0625 },
    { numbers: 'ternary', group: -1, type: 'TQ2_0', bits: 2.0625 },
    { numbers: 'ternary', group: 'tensor', type: 'TQ2_0', bits: 2.0625 },
    { numbers: 'ternary', group: 64, type: 'Q4_0', bits: 4.5 },
  ] as const)('$numbers, group $group: $type, every value the same', async ({ type, bits, ...choice }) => {
    const weight = { rows, columns, values: weights };
    const encoding = await roundToLevels(weight, { ...choice, range: 'mse' });
    const blocks = blocksOf(encoding);
    expect(blocks.label).toBe(type);
    expect((8 * encodedBytes(blocks)) / weights.length).toBe(bits);
    expect(values(blocks)).toEqual(values(encoding));
  });

  it('refuses rows that are no whole blocks, and formats that ggml does not have', async () => {
    const odd = { rows, columns: 40, values: weights.subarray(0, rows * 40) };
    const rounded = await roundToLevels(odd, { numbers: 'mxfp4', range: 'minmax' });
    expect(() => blocksOf(rounded)).toThrow(/no whole blocks[^]*multiple of 32[^]*40/);
    const other = await roundToLevels(
      { rows, columns, values: weights },
      { numbers: 'nf4', range: 'minmax' },
    );
    expect(() => blocksOf(other)).toThrow(/no blocks for nf4, group 64/);
  });
});
