import { describe, expect, it } from 'vitest';
import { Graph } from './graph.ts';
import { peakBytes, sizeOf } from './memory.ts';
import { add, matmul, mul, reshape, transpose } from './ops.ts';

describe('peakBytes', () => {
  it('counts what is computed and still needed, not inputs and weights', () => {
    const graph = new Graph('inputs');
    const x = graph.input('x', 'float32', ['batch', 8]);
    // Alive at once: the first product until the sum, the second and the sum with it.
    const first = mul(x, x);
    const second = mul(first, x);
    graph.output('y', add(first, second));
    expect(peakBytes(graph, { batch: 10 })).toBe(3 * 10 * 8 * 4);
  });

  it('lets go of what nobody needs any more', () => {
    const graph = new Graph('inputs');
    let x = graph.input('x', 'float32', ['batch', 8]);
    for (let layer = 0; layer < 5; layer++) x = mul(x, x);
    graph.output('y', x);
    expect(peakBytes(graph, { batch: 10 })).toBe(2 * 10 * 8 * 4);
  });

  it('takes another shape of the same bytes for the same bytes, and a transposed copy for a copy', () => {
    const graph = new Graph('inputs');
    const x = graph.input('x', 'float32', ['time', 8]);
    const doubled = add(x, x);
    const view = reshape(doubled, ['time', 2, 4]);
    graph.output('y', matmul(view, transpose(view, [0, 2, 1])));
    // The sum, which the view is; its copy; the product.
    expect(peakBytes(graph, { time: 3 })).toBe(4 * 3 * (8 + 8 + 2 * 2));
  });

  it('needs the size of every name', () => {
    const graph = new Graph('inputs');
    const x = graph.input('x', 'float32', ['batch', 8]);
    graph.output('y', mul(x, x));
    expect(() => peakBytes(graph, {})).toThrow('batch');
  });
});

describe('sizeOf', () => {
  it('knows numbers, names, and sums of products', () => {
    const sizes = { batch: 2, time: 5, past: 7, 'a name+with a sign': 3 };
    expect(
      [4, 'time', '3*batch*time', 'past+time', '2*past+batch', 'a name+with a sign'].map((dim) =>
        sizeOf(dim, sizes),
      ),
    ).toEqual([4, 5, 30, 12, 16, 3]);
  });
});
