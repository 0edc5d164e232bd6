import { describe, expect, it } from 'vitest';
import { quantizeTo } from '../encodings/blocks/index.ts';
import { denseValues } from '../encodings/dense.ts';
import { fileTypeOf } from './gguf-write.ts';

const [rows, columns] = [4, 256];
const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i));
const of = (name: string) => quantizeTo({ name }, { rows, columns, values });

describe('what llama.cpp calls a file', () => {
  it('is the type that most weights have, by its number where llama.cpp has one', async () => {
    const floats = denseValues(values.subarray(0, columns), 1, columns);
    const typeOf = async (name: string) =>
      fileTypeOf({
        matrices: new Map([
          ['a', floats],
          ['b', await of(name)],
        ]),
      });
    expect(await typeOf('Q4_0')).toEqual({ name: 'Q4_0', id: 2 });
    expect(await typeOf('Q4_K')).toEqual({ name: 'Q4_K_M', id: 15 });
    expect(await typeOf('MXFP4')).toEqual({ name: 'MXFP4' });
  });

  it('is none where most are floats', () => {
    expect(fileTypeOf({ matrices: new Map([['a', denseValues(values, rows, columns)]]) })).toBeUndefined();
  });
});
