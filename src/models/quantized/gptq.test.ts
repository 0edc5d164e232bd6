import { describe, expect, it } from 'vitest';
import { stored } from '../../base/tensor.ts';
import { gptqEncoding } from './gptq.ts';

const [rows, columns, bits] = [8, 12, 4] as const;

/** Codes of a column one after the other down the words, as GPTQModel writes them: the last word is half full. */
function tensors(inputs: number) {
  const words = new Int32Array(2 * rows);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < columns; i++)
      words[Math.floor(i / 8) * rows + row] |= ((row + i) % 16) << (4 * (i % 8));
  return new Map([
    ['qweight', stored('int32', [2, rows], words)],
    ['qzeros', stored('int32', [1, 1], Int32Array.of(0x77777777))],
    ['scales', stored('float32', [1, rows], new Float32Array(rows).fill(0.5))],
    ['g_idx', stored('int32', [inputs], new Int32Array(inputs))],
  ]);
}

describe("a matrix in GPTQ's format", () => {
  it('has as many inputs as g_idx says, where its last words are not full', () => {
    const encoding = gptqEncoding(tensors(columns), { bits, group: -1, version: 1 });
    expect(encoding.shape).toEqual([rows, columns]);
    encoding.dense().forEach((value, at) => {
      const [row, i] = [Math.floor(at / columns), at % columns];
      expect(value).toBe((((row + i) % 16) - 8) * 0.5);
    });
  });

  it.each([7, 17])('is refused where g_idx has %d inputs, which its words do not hold', (inputs) => {
    expect(() => gptqEncoding(tensors(inputs), { bits, group: -1, version: 1 })).toThrow(
      expect.objectContaining({
        problem: expect.objectContaining({ expected: 'int32 [16]', found: `int32 [${inputs}]` }),
      }),
    );
  });
});
