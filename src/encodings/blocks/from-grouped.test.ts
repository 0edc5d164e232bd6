import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { random } from '../../base/random.ts';
import { stored } from '../../base/tensor.ts';
import { rtn } from '../../methods/quantize/rtn.ts';
import { dense } from '../dense.ts';
import type { Encoding } from '../encoding.ts';
import { blocksOf } from './from-grouped.ts';

const rows = 5;

/** Weights whose rows differ in size, the last so much that float16 has no normal number for its scales. */
function rounded(columns: number, options: Record<string, unknown>): Promise<Encoding> {
  const { normal } = random(7);
  const size = (row: number) => (row === rows - 1 ? 1e-5 : 0.02 * (row + 1));
  const values = Float32Array.from(
    { length: rows * columns },
    (_, i) => size(Math.floor(i / columns)) * normal(),
  );
  const choice = rtn.options.parse({ range: 'minmax', scales: 'short', ...options });
  return rtn.compress({ rows, columns, values }, { tokens: 0 }, choice);
}

/** 0 and -0 are one value. */
const values = (encoding: Encoding) => encoding.dense().map((value) => value + 0);

describe('grouped integers in blocks of ggml', () => {
  it.each([
    { bits: 4, symmetric: true, group: 32, type: 'Q4_0' },
    { bits: 4, symmetric: true, group: 128, type: 'Q4_0' },
    { bits: 4, symmetric: true, group: -1, type: 'Q4_0' },
    { bits: 4, symmetric: false, group: 32, type: 'Q4_1' },
    { bits: 4, symmetric: false, group: 64, type: 'Q4_1' },
    { bits: 3, symmetric: true, group: 32, type: 'Q4_0' },
    { bits: 3, symmetric: false, group: 32, type: 'Q4_0' },
    { bits: 2, symmetric: true, group: 32, type: 'Q4_0' },
    { bits: 2, symmetric: false, group: 32, type: 'Q4_0' },
    { bits: 2, symmetric: true, group: 256, type: 'TQ2_0' },
    { bits: 2, symmetric: true, group: -1, type: 'TQ2_0' },
    { bits: 8, symmetric: true, group: 32, type: 'Q8_0' },
    { bits: 8, symmetric: true, group: -1, type: 'Q8_0' },
  ])('$bits bits, symmetric $symmetric, group $group: $type, every value the same', async (choice) => {
    const { type, ...options } = choice;
    const encoding = await rounded(512, options);
    const blocks = blocksOf(encoding);
    expect(blocks.label).toBe(type);
    expect(values(blocks)).toEqual(values(encoding));
  });

  it('takes a larger type where scales were not made for the smaller one', async () => {
    const { normal } = random(8);
    const weight = { rows, columns: 128, values: Float32Array.from({ length: rows * 128 }, normal) };
    const encoding = await rtn.compress(weight, { tokens: 0 }, rtn.options.parse({ scales: 'float16' }));
    const blocks = blocksOf(encoding);
    expect(blocks.label).toBe('Q5_0');
    expect(values(blocks)).toEqual(values(encoding));
  });

  it('a last group that is not whole counts from the start of its row', async () => {
    const encoding = await rounded(160, { bits: 4, symmetric: true, group: 64 });
    expect(values(blocksOf(encoding))).toEqual(values(encoding));
  });

  it.each([
    [160, { group: 16 }, /groups are no whole blocks.*\n.*32.*\n.*16\n.*group: 32/],
    [172, { group: 32 }, /rows are no whole blocks.*\n.*multiple of 32.*\n.*172/],
    [160, { scales: 'float32' }, /float16 holds\n.*of 25.*\n.*scales: short/],
    [160, { scales: 'float16' }, /float16 holds\n.*: 5 of 25.*\n.*scales: short/],
    [160, { bits: 8 }, /zero points do not fit.*\n.*128 below.*\n.*\n.*symmetric: true/],
  ])('of %i columns with %o are refused, saying what would fit', async (columns, options, message) => {
    const encoding = await rounded(columns, options);
    expect(() => blocksOf(encoding)).toThrow(LapidaryError);
    expect(() => blocksOf(encoding)).toThrow(message);
  });

  it('are the only ones that change', async () => {
    const floats = dense(stored('float32', [2, 32], new Float32Array(64)));
    const blocks = blocksOf(await rounded(64, { symmetric: true }));
    expect(blocksOf(floats)).toBe(floats);
    expect(blocksOf(blocks)).toBe(blocks);
  });
});
