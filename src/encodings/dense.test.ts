import { describe, expect, it } from 'vitest';
import { floatToBfloat, floatToHalf, toFloat32 } from '../base/half.ts';
import { random } from '../base/random.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { dense, denseValues, retyped } from './dense.ts';
import { encodedBytes } from './encoding.ts';

const [rows, columns] = [5, 7];
const { normal } = random(1);
const values = Float32Array.from({ length: rows * columns }, normal);
const forms: Record<string, Stored> = {
  float32: stored('float32', [rows, columns], values),
  float16: stored('float16', [rows, columns], floatToHalf(values)),
  bfloat16: stored('bfloat16', [rows, columns], floatToBfloat(values)),
};

describe.each(Object.entries(forms))('a dense %s matrix', (dtype, form) => {
  it('reports the bytes it stores and gives its values widened', () => {
    const encoding = dense(form);
    expect(encoding.label).toBe(dtype);
    expect(encodedBytes(encoding)).toBe(form.bytes().byteLength);
    expect(encoding.bits * rows * columns).toBe(8 * encodedBytes(encoding));
    expect(encoding.dense()).toEqual(toFloat32(form));
  });

  it('hands out values that may be written to', () => {
    const encoding = dense(form);
    encoding.dense().fill(0);
    expect(encoding.dense()).toEqual(toFloat32(form));
  });

  it.each(['initializers', 'inputs'] as const)(
    'as %s multiplies and looks up by those values',
    async (weightsAs) => {
      const encoding = dense(form);
      const graph = new Graph(weightsAs);
      const x = graph.input('x', 'float32', ['batch', 'time', columns]);
      const ids = graph.input('ids', 'int64', ['n']);
      const place = (suffix: string, part: Stored) => graph.weight(`w.${suffix}`, part);
      graph.output('y', encoding.multiply(x, place));
      graph.output('rows', encoding.gather(ids, place, 'float32'));
      const session = await openSession(graph);
      // The rows of the identity give the columns of W: y[i][j] = W[j][i].
      const identity = Float32Array.from({ length: columns * columns }, (_, i) =>
        Math.floor(i / columns) === i % columns ? 1 : 0,
      );
      const result = await session.run({
        x: tensor('float32', [1, columns, columns], identity),
        ids: tensor('int64', [3], BigInt64Array.of(4n, 0n, 4n)),
        ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
      });
      await session.release();
      const wide = encoding.dense();
      expect(result.y.dims).toEqual([1, columns, rows]);
      expect(result.y.data).toEqual(
        Float32Array.from(
          { length: columns * rows },
          (_, i) => wide[(i % rows) * columns + Math.floor(i / rows)],
        ),
      );
      const row = (index: number) => [...wide.subarray(index * columns, (index + 1) * columns)];
      expect([...(result.rows.data as Float32Array)]).toEqual([...row(4), ...row(0), ...row(4)]);
    },
  );
});

describe('dense', () => {
  it('refuses what is no matrix of floats', () => {
    expect(() => dense(stored('int8', [1, 2], Int8Array.of(1, 2)))).toThrowError(
      /float32, float16, bfloat16/,
    );
    expect(() => dense(stored('float32', [2], Float32Array.of(1, 2)))).toThrowError(/two sizes[\s\S]*\[2\]/);
  });

  it('takes values as they are', () => {
    expect(denseValues(values, rows, columns).dense()).toEqual(values);
  });

  it('converts between float types when bytes are asked for', () => {
    const half = retyped(forms.float32, 'float16');
    expect(half.byteLength).toBe(half.bytes().byteLength);
    expect(half.bytes()).toEqual(forms.float16.bytes());
    expect(retyped(forms.float16, 'float16')).toBe(forms.float16);
  });
});
