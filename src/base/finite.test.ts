import { describe, expect, it } from 'vitest';
import { checkFinite, findNonFinite } from './finite.ts';
import { floatToBfloat, floatToHalf } from './half.ts';
import { stored } from './tensor.ts';

describe('findNonFinite', () => {
  const good = [0, -0, 1, -65504, 6e-8];
  const types = {
    float32: (values: number[]) => Float32Array.from(values),
    float64: (values: number[]) => Float64Array.from(values),
    float16: (values: number[]) => floatToHalf(Float32Array.from(values)),
    bfloat16: (values: number[]) => floatToBfloat(Float32Array.from(values)),
  } as const;

  it('finds the first NaN or infinity of every float type, at any alignment, and nothing where there is none', () => {
    for (const [dtype, make] of Object.entries(types)) {
      const type = dtype as keyof typeof types;
      expect(findNonFinite(stored(type, [5], make(good)))).toBeUndefined();
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const data = make([...good, bad, Number.NaN]);
        const odd = new Uint8Array(data.byteLength + 1);
        odd.set(new Uint8Array(data.buffer), 1);
        for (const view of [data, odd.subarray(1)]) {
          expect(findNonFinite(stored(type, [7], view)), dtype).toEqual({ index: 5, value: bad });
        }
      }
    }
  });

  it('has nothing to say about integers', () => {
    expect(findNonFinite(stored('uint8', [2], Uint8Array.of(255, 127)))).toBeUndefined();
  });

  it('lets checkFinite name the tensor, the place and the value', () => {
    const tensor = stored('float32', [1, 3], Float32Array.of(1, Number.NaN, 2));
    expect(() => checkFinite('head.weight', tensor, 'x.safetensors')).toThrow(
      /x.safetensors: tensor "head.weight" (.|\n)*NaN at 1 of \[1, 3\]/,
    );
    checkFinite('ok', stored('float32', [1], Float32Array.of(1)));
  });
});
