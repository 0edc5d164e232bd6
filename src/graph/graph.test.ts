import { describe, expect, it } from 'vitest';
import { stored } from '../base/tensor.ts';
import { gradient } from './gradient.ts';
import { Graph } from './graph.ts';
import { add, concat, matmul, mul, reduceSum, reshape, scalar, transpose } from './ops.ts';
import { openSession, tensor } from './session.ts';

const vector = stored('float32', [2], Float32Array.of(3, 4));

describe('a graph', () => {
  it('knows a weight by its name and tensor, and takes no second one of that name', () => {
    const graph = new Graph();
    expect(graph.weight('w', vector)).toBe(graph.weight('w', vector));
    expect(() => graph.weight('w', stored('float32', [2], new Float32Array(2)))).toThrow(
      /two values named w/,
    );
  });

  it('has one value for equal numbers', () => {
    const graph = new Graph();
    expect(scalar(graph, 0.5)).toBe(scalar(graph, 0.5));
    expect(scalar(graph, 0.5)).not.toBe(scalar(graph, 0.5, 'float64'));
    expect(scalar(graph, 0)).not.toBe(scalar(graph, -0));
  });

  it('names sizes that follow from named ones', () => {
    const graph = new Graph();
    const past = graph.input('past', 'float32', ['batch', 'past', 6]);
    const now = graph.input('now', 'float32', ['batch', 'time', 6]);
    const all = concat([past, now], 1);
    expect(all.shape).toEqual(['batch', 'past+time', 6]);
    expect(reshape(now, [-1, 6]).shape).toEqual(['batch*time', 6]);
    expect(reshape(now, [-1, 2]).shape).toEqual(['3*batch*time', 2]);
    expect(reshape(all, [-1, 6]).shape).toEqual(['batch*(past+time)', 6]);
    expect(reshape(all, ['batch', 'past+time', 2, -1]).shape).toEqual(['batch', 'past+time', 2, 3]);
  });

  it('reshapes to several sizes known only when it runs', async () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', ['batch', 'time', 6]);
    const rows = mul(reshape(x, [-1, 6]), scalar(graph, 2));
    graph.output('y', transpose(reshape(rows, ['batch', 'time', 2, 3]), [0, 2, 1, 3]));
    const session = await openSession(graph);
    const run = async (batch: number, time: number) => {
      const data = Float32Array.from({ length: batch * time * 6 }, (_, i) => i);
      const { y } = await session.run({ x: tensor('float32', [batch, time, 6], data) });
      return { dims: y.dims, last: (y.data as Float32Array).at(-1) };
    };
    expect(await run(2, 5)).toEqual({ dims: [2, 2, 5, 3], last: 118 });
    expect(await run(1, 1)).toEqual({ dims: [1, 2, 1, 3], last: 10 });
    await session.release();
  });
});

describe('a gradient', () => {
  async function evaluate(
    graph: Graph,
    feeds: Record<string, readonly number[]>,
  ): Promise<Record<string, number[]>> {
    const session = await openSession(graph);
    const inputs = Object.entries(feeds).map(([name, values]) => [
      name,
      tensor('float32', [values.length], Float32Array.from(values)),
    ]);
    const outputs = await session.run(Object.fromEntries(inputs));
    await session.release();
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data as Float32Array)]),
    );
  }

  it('adds up over all ways from a value to the loss', async () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    const loss = reduceSum(add(mul(x, x), mul(x, graph.weight('w', vector))), [0]);
    graph.output('g', gradient(loss, [x])[0]);
    expect(await evaluate(graph, { x: [1, 2] })).toEqual({ g: [5, 8] });
  });

  it('is zero for what the loss does not depend on', async () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    const other = graph.input('other', 'float32', ['n']);
    const [ofX, ofOther] = gradient(reduceSum(x, [0]), [x, other]);
    graph.output('x.g', ofX);
    graph.output('other.g', ofOther);
    expect(await evaluate(graph, { x: [1, 2], other: [5, 6, 7] })).toEqual({
      'x.g': [1, 1],
      'other.g': [0, 0, 0],
    });
  });

  it('of a gradient is the second derivative', async () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2]);
    const [first] = gradient(reduceSum(mul(mul(x, x), x), [0]), [x]);
    graph.output('second', gradient(reduceSum(first, [0]), [x])[0]);
    expect(await evaluate(graph, { x: [1, 2] })).toEqual({ second: [6, 12] });
  });

  it('is taken of a single number only', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', [2, 2]);
    expect(() => gradient(matmul(x, x), [x])).toThrow(/only a single number.*found: \[2, 2\]/s);
  });
});
