import { describe, expect, it } from 'vitest';
import { floatToBfloat, floatToHalf, toFloat32 } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import { Graph } from '../graph/graph.ts';
import { portable } from './dense.ts';

const values = Float32Array.of(1, -0.5, 0.25, 3, 2 ** -10, -7);
const float32 = stored('float32', [3, 2], values);
const bfloat16 = stored('bfloat16', [3, 2], floatToBfloat(values));
const float16 = stored('float16', [3, 2], floatToHalf(values));

describe('dense matrices in exported files', () => {
  it.each([
    ['float32', float32, 'float32', 'float32'],
    ['float32', float32, 'float16', 'float16'],
    ['bfloat16', bfloat16, 'float32', 'float16'],
    ['bfloat16', bfloat16, 'float16', 'float16'],
    ['float16', float16, 'float32', 'float16'],
  ] as const)('%s for activations in %3$s', (_, tensor, activations, expected) => {
    const kept = portable(tensor, activations).tensors.get('weight')!;
    expect(kept.dtype).toBe(expected);
    expect(toFloat32(kept)).toEqual(values);
  });

  it('bfloat16 beyond the range of float16 is stored as float32', () => {
    const large = stored('bfloat16', [1, 2], floatToBfloat(Float32Array.of(1, 2 ** 20)));
    const kept = portable(large, 'float32').tensors.get('weight')!;
    expect(kept.dtype).toBe('float32');
    expect(toFloat32(kept)).toEqual(Float32Array.of(1, 2 ** 20));
  });

  it('are cast once a graph, for products and lookups together', () => {
    const encoding = portable(bfloat16, 'float32');
    for (const graph of [new Graph(), new Graph()]) {
      const place = (suffix: string, tensor: typeof bfloat16) => graph.weight(`w.${suffix}`, tensor);
      const ids = graph.input('ids', 'int64', ['n']);
      const rows = encoding.gather(ids, place, 'float32');
      expect(encoding.multiply(rows, place)).toMatchObject({ dtype: 'float32', shape: ['n', 3] });
      expect(graph.nodes.map(({ op }) => op)).toEqual(['Cast', 'Gather', 'FusedMatMul']);
    }
  });
});
