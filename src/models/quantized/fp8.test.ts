/** FP8 checkpoints open as the values that transformers dequantizes them to. */

import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import { openSafetensors } from '../../io/safetensors/read.ts';
import { fp8, fp8Encoding } from './fp8.ts';
import { readQuantized } from './index.ts';

const goldens = openSafetensors('test/goldens/fp8.safetensors').tensors;
const block = [128, 128] as const;

/** The tensors of a case. */
const tensorsOf = (name: string): Map<string, Stored> =>
  new Map(
    ['weight', 'weight_scale_inv'].map((suffix) => [suffix, goldens.get(`${name}/${suffix}`)! as Stored]),
  );

describe('FP8', () => {
  it.each(['blocks', 'blocks, bfloat16 scales', 'one scale'])('%s: as transformers has it', (name) => {
    const found = fp8Encoding(tensorsOf(name), block);
    expect(found.bits).toBe(8);
    const values = found.dense();
    const some = Float32Array.from(
      { length: 16 * 256 },
      (_, i) => values[Math.floor(i / 256) * 16 * 256 + (i % 256)],
    );
    expect(some).toEqual(toFloat32(goldens.get(`${name}/dense`)! as Stored));
  });

  it('matrices end within a block', () => {
    const codes = stored('float8e4m3', [3, 128], new Uint8Array(3 * 128).fill(0x38));
    const scales = stored('float32', [2, 1], Float32Array.of(2, 3));
    const found = fp8Encoding(
      new Map([
        ['weight', codes],
        ['weight_scale_inv', scales],
      ]),
      [2, 128],
    );
    expect([0, 1, 2].map((row) => found.dense()[row * 128])).toEqual([2, 2, 3]);
  });

  it('a checkpoint: what has no codes stays floats', () => {
    const tensors = new Map<string, Stored>(
      [...tensorsOf('blocks')].map(([suffix, tensor]) => [`a.${suffix}`, tensor]),
    );
    tensors.set('b.weight', stored('float32', [1, 2], Float32Array.of(1, 2)));
    const json = {
      quantization_config: {
        quant_method: 'fp8',
        activation_scheme: 'dynamic',
        weight_block_size: [128, 128],
        modules_to_not_convert: ['b'],
      },
    };
    const found = readQuantized({ json, tensors, source: 'tiny' })!;
    expect([...found.encodings.keys()]).toEqual(['a']);
    expect([...found.tensors.keys()]).toEqual(['b.weight']);
  });

  it('refuses what does not agree', () => {
    const parts = tensorsOf('blocks');
    expect(() => fp8Encoding(parts, [64, 128])).toThrow('not as the checkpoint says');
    parts.delete('weight_scale_inv');
    expect(() => fp8Encoding(parts, block)).toThrow('the scales of the codes');
    const config = { quant_method: 'fp8', weight_block_size: 128 };
    expect(() => fp8.open({ quantization_config: config })).toThrow('two whole numbers');
  });
});
