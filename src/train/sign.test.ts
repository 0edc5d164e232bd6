import { describe, expect, it } from 'vitest';
import { stored } from '../base/tensor.ts';
import { Graph } from '../graph/graph.ts';
import { floor, mul, reduceSum, sub } from '../graph/ops.ts';
import { openSession, tensor } from '../graph/session.ts';
import { forWebGpu } from '../graph/webgpu.ts';
import { openSignDescent, signStep } from './sign.ts';
import { names } from './step.ts';

/** sum((a - goal)^2) + sum((b - goal)^2), where b moves a quarter as fast. */
function bowls(): Graph {
  const graph = new Graph('inputs');
  const goal = graph.weight('goal', stored('float32', [3], Float32Array.of(1, -1, 0)));
  const parameters = ['a', 'b'].map((name, i) => ({
    value: graph.input(name, 'float32', [3]),
    share: [1, 0.25][i],
  }));
  const losses = parameters.map(({ value }) => mul(sub(value, goal), sub(value, goal)));
  signStep(reduceSum(sub(losses[0], mul(losses[1], graph.input('factor', 'float32', []))), [0]), parameters);
  return graph;
}

const start = () => ({
  a: tensor('float32', [3], new Float32Array(3)),
  b: tensor('float32', [3], new Float32Array(3)),
});
const factor = (value: number) => ({ factor: tensor('float32', [], Float32Array.of(value)) });

describe('signed gradient descent', () => {
  it('moves every parameter by its rate against the sign of its gradient, and by nothing where that is 0', async () => {
    const descent = await openSignDescent(bowls(), start(), { threads: 1 });
    expect(await descent.step(factor(-1), 0.5)).toBe(4);
    expect(await descent.step(factor(-1), 0.25)).toBe(0.5 + 2 * 0.875 ** 2);
    const { a, b } = descent.parameters();
    expect([...(a.data as Float32Array)]).toEqual([0.75, -0.75, 0]);
    expect([...(b.data as Float32Array)]).toEqual([0.1875, -0.1875, 0]);
    await descent.release();
  });

  it('leaves what it started from as it was', async () => {
    const given = start();
    const descent = await openSignDescent(bowls(), given, { threads: 1 });
    await descent.step(factor(-1), 0.5);
    expect([...(given.a.data as Float32Array)]).toEqual([0, 0, 0]);
    await descent.release();
  });

  it('refuses a loss that is no number', async () => {
    const descent = await openSignDescent(bowls(), start(), { threads: 1 });
    await expect(descent.step(factor(Number.NaN), 0.1)).rejects.toThrow('training diverged at step 1');
    await descent.release();
  });

  it('takes the same steps in the operators that GPUs have', async () => {
    const graph = bowls();
    const suited = forWebGpu(graph);
    expect(suited.nodes.some(({ op }) => op === 'Sign')).toBe(false);
    const feeds = {
      ...start(),
      ...factor(-1),
      goal: tensor('float32', [3], Float32Array.of(1, -1, 0)),
      'sign.rate': tensor('float32', [], Float32Array.of(0.5)),
    };
    const [expected, found] = [await openSession(graph), await openSession(suited)];
    const [a, b] = [await expected.run(feeds), await found.run(feeds)];
    for (const name of ['a', 'b'].map(names.next)) expect(b[name].data).toEqual(a[name].data);
  });

  it('says why a step function alone cannot be trained', () => {
    const graph = new Graph('inputs');
    const value = graph.input('x', 'float32', [2]);
    expect(() => signStep(reduceSum(floor(value), [0]), [{ value, share: 1 }])).toThrow(
      /Floor has no gradient/,
    );
  });
});
