/** Encodings grown from a few rows take what those of whole matrices take. */

import { describe, expect, it } from 'vitest';
import { noiseOf } from '../calibrate/noise.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { methods } from '../methods/index.ts';
import { compresses } from '../recipe/steps.ts';
import { grownTo } from './outline.ts';

const compressors = methods.filter(compresses).filter((method) => !('convert' in method && method.convert));

describe.each(compressors.map((method) => [method.name, method] as const))('%s', (_, method) => {
  it.each([
    [48, 64],
    [80, 1088],
  ] as const)('in %i x %i', async (...shape) => {
    const assigned = { method, options: method.options.parse({}) };
    const { encoding, exact } = await grownTo(shape, (size) => noiseOf(assigned, size));
    const whole = await noiseOf(assigned, shape);
    expect([encoding.shape, encoding.bits]).toEqual([shape, whole.bits]);
    if (exact) expect(encoding.label).toBe(whole.label);
    const share = encodedBytes(encoding) / encodedBytes(whole);
    if (exact) expect(share).toBe(1);
    else expect(Math.abs(share - 1)).toBeLessThan(0.05);
  });
});
