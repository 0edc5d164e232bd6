import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { add, fusedMatmul, gather, mul, reduceSum, rmsNorm, scalar, sub, tanh } from '../graph/ops.ts';
import { openSession, tensor, tensorOf } from '../graph/session.ts';
import { forWebGpu } from '../graph/webgpu.ts';
import { adamDefaults, adamFeeds } from './adam.ts';
import { openTrainer, train } from './loop.ts';
import { crossEntropy } from './loss.ts';
import { linearSchedule } from './schedule.ts';
import { names, trainingStep } from './step.ts';

const normals = (seed: number, shape: readonly number[], deviation = 1) => {
  const source = random(seed);
  const count = shape.reduce((product, size) => product * size, 1);
  return stored(
    'float32',
    shape,
    Float32Array.from({ length: count }, () => deviation * source.normal()),
  );
};
const floatsOf = (bytes: Uint8Array) =>
  new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

/** Predicts each token's successor through a hidden layer: [rows, time] ids and targets, 11 tokens. */
function nextToken(rows: number, time: number): Value {
  const graph = new Graph('inputs');
  const ids = graph.input('ids', 'int64', [rows, time]);
  const targets = graph.input('targets', 'int32', [rows, time]);
  const embedding = graph.weight('embedding', normals(1, [11, 8], 0.5));
  const hidden = graph.weight('hidden', normals(2, [16, 8], 0.5));
  const bias = graph.weight('bias', normals(3, [16], 0.5));
  const head = graph.weight('head', normals(4, [11, 16], 0.5));
  const states = tanh(add(fusedMatmul(gather(embedding, ids), hidden, { transB: true }), bias));
  return crossEntropy(fusedMatmul(states, head, { transB: true }), targets);
}

const ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
const targets = [1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9];
const batch = {
  ids: tensor('int64', [2, 6], BigInt64Array.from(ids, BigInt)),
  targets: tensor('int32', [2, 6], Int32Array.from(targets)),
};

function* same<T>(value: T) {
  for (;;) yield value;
}

describe('crossEntropy', () => {
  const loss = async (values: readonly number[], target: number, smoothing: number) => {
    const graph = new Graph();
    const logits = graph.input('logits', 'float32', [1, values.length]);
    graph.output('loss', crossEntropy(logits, graph.input('targets', 'int32', [1]), smoothing));
    const session = await openSession(graph);
    const feeds = {
      logits: tensor('float32', [1, values.length], Float32Array.from(values)),
      targets: tensor('int32', [1], Int32Array.of(target)),
    };
    return Number((await session.run(feeds)).loss.data[0]);
  };

  it('is the negative log-probability of the target', async () => {
    const values = [0.5, -1, 2];
    const total = values.reduce((sum, value) => sum + Math.exp(value), 0);
    expect(await loss(values, 1, 0)).toBeCloseTo(Math.log(total) + 1, 5);
  });

  it('spreads the smoothed share evenly', async () => {
    const values = [0.5, -1, 2];
    const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
    const even = values.reduce((sum, value) => sum + (total - value) / 3, 0);
    expect(await loss(values, 0, 0.3)).toBeCloseTo(0.7 * (total - 0.5) + 0.3 * even, 5);
  });
});

describe('linearSchedule', () => {
  it('rises to the peak and falls to almost nothing at the last step', () => {
    const rate = linearSchedule({ peak: 1, warmup: 4, steps: 10 });
    expect([1, 2, 4].map(rate)).toEqual([0.25, 0.5, 1]);
    expect(rate(10)).toBeCloseTo(1 / 7);
    expect(rate(11)).toBe(0);
  });
});

describe('a trainer', () => {
  it('takes the steps that AdamW takes in float64', async () => {
    const graph = new Graph('inputs');
    const start = [0.5, -1.5, 2, 0.1];
    const goal = graph.input('goal', 'float32', [2, 2]);
    const weight = graph.weight('w', stored('float32', [2, 2], Float32Array.from(start)));
    const difference = sub(weight, goal);
    const loss = reduceSum(mul(difference, difference), [0, 1]);
    const options = { ...adamDefaults, weightDecay: 0.05, clip: 2 };
    const trainer = await openTrainer(loss, { adam: options });
    const expected = { w: [...start], m: [0, 0, 0, 0], v: [0, 0, 0, 0] };
    for (let step = 1; step <= 5; step++) {
      const aim = [1, 1, step, -1];
      const feeds = { goal: tensor('float32', [2, 2], Float32Array.from(aim)) };
      const { norm } = await trainer.step(feeds, 0.1);
      const gradients = expected.w.map((w, i) => 2 * (w - aim[i]));
      const length = Math.hypot(...gradients);
      expect(norm).toBeCloseTo(length, 4);
      const shrink = Math.min(1, options.clip / (length + 1e-6));
      for (const [i, raw] of gradients.entries()) {
        const g = raw * shrink;
        expected.m[i] = options.beta1 * expected.m[i] + (1 - options.beta1) * g;
        expected.v[i] = options.beta2 * expected.v[i] + (1 - options.beta2) * g * g;
        const first = expected.m[i] / (1 - options.beta1 ** step);
        const second = expected.v[i] / (1 - options.beta2 ** step);
        expected.w[i] -=
          0.1 * (first / (Math.sqrt(second) + options.epsilon) + options.weightDecay * expected.w[i]);
      }
    }
    const found = floatsOf((await trainer.weights()).get('w')!.bytes());
    for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected.w[i], 5);
    await trainer.release();
  });

  it('learns a few sequences by heart', async () => {
    // 5 is followed by 9, 3 and 8, 1 by 4 and 5, 3 by 1 and 5, so that the best loss is not 0.
    const best = (3 * Math.log(3) + 4 * Math.log(2)) / 12;
    const { losses } = await train(nextToken(2, 6), {
      steps: 200,
      rate: linearSchedule({ peak: 0.05, warmup: 10, steps: 200 }),
      batches: same(batch),
      adam: { weightDecay: 0 },
    });
    expect(losses[0]).toBeGreaterThan(2);
    expect(losses.at(-1)).toBeLessThan(best + 0.02);
  });

  it('gives the same weights twice, and when it goes on from a saved state', async () => {
    const options = () => ({ steps: 6, rate: () => 0.01, batches: same(batch) });
    const once = await train(nextToken(2, 6), options());
    const twice = await train(nextToken(2, 6), options());
    const first = await openTrainer(nextToken(2, 6));
    for (let step = 1; step <= 3; step++) await first.step(batch, 0.01);
    const from = { state: await first.state(), steps: 3 };
    await first.release();
    const resumed = await train(nextToken(2, 6), { ...options(), from });
    expect(resumed.losses).toEqual(once.losses.slice(3));
    for (const [name, weight] of once.weights) {
      expect(floatsOf(twice.weights.get(name)!.bytes())).toEqual(floatsOf(weight.bytes()));
      expect(floatsOf(resumed.weights.get(name)!.bytes())).toEqual(floatsOf(weight.bytes()));
    }
  });

  it('stops at the signal', async () => {
    const controller = new AbortController();
    const { losses } = await train(nextToken(2, 6), {
      steps: 100,
      rate: () => 0.01,
      batches: same(batch),
      signal: controller.signal,
      onStep: ({ step }) => {
        if (step === 3) controller.abort();
      },
    });
    expect(losses).toHaveLength(3);
  });

  it('refuses to go on from a loss that is no number', async () => {
    const graph = new Graph('inputs');
    const weight = graph.weight('w', normals(5, [3]));
    const loss = reduceSum(mul(weight, graph.input('factor', 'float32', [])), [0]);
    const trainer = await openTrainer(loss);
    const factor = tensor('float32', [], Float32Array.of(Number.NaN));
    await expect(trainer.step({ factor }, 0.1)).rejects.toThrow('training diverged at step 1');
    await trainer.release();
  });
});

describe('forWebGpu', () => {
  it('computes the same training step', async () => {
    const graph = new Graph('inputs');
    const x = graph.input('x', 'float32', [4, 8]);
    const normed = rmsNorm(x, graph.weight('norm', normals(6, [8])), 1e-5);
    const logits = fusedMatmul(normed, graph.weight('head', normals(7, [11, 8])), { transB: true });
    const parameters = trainingStep(crossEntropy(logits, graph.input('targets', 'int32', [4])), adamDefaults);
    const rewritten = forWebGpu(graph);
    const lacking = ['FusedMatMul', 'LogSoftmax', 'SimplifiedLayerNormalization'];
    expect(rewritten.nodes.filter(({ op }) => lacking.includes(op))).toEqual([]);
    const feeds = firstFeeds(graph, parameters);
    const expected = await (await openSession(graph)).run(feeds);
    const found = await (await openSession(rewritten)).run(feeds);
    for (const [name, { data }] of Object.entries(expected)) {
      for (const [i, value] of (data as Float32Array).entries()) {
        expect(Math.abs(Number(found[name].data[i]) - value)).toBeLessThan(1e-5 * (1 + Math.abs(value)));
      }
    }
  });

  it('multiplies transposed matrices, also with a long inner axis, as the CPU does', async () => {
    const graph = new Graph();
    const a = graph.input('a', 'float32', [8192, 3]);
    const b = graph.input('b', 'float32', [8192, 5]);
    const c = graph.input('c', 'float32', [2, 4, 3]);
    graph.output('long', fusedMatmul(a, b, { transA: true }));
    graph.output('turned', fusedMatmul(b, a, { transA: true, alpha: 0.5 }));
    graph.output('batched', fusedMatmul(c, scaleRows(c), { transB: true, alpha: 2 }));
    const feeds = Object.fromEntries(
      Object.entries({ a, b, c }).map(([name, { shape }], i) => {
        const sizes = shape as readonly number[];
        return [name, tensor('float32', sizes, floatsOf(normals(i, sizes).bytes()))];
      }),
    );
    const expected = await (await openSession(graph)).run(feeds);
    const found = await (await openSession(forWebGpu(graph))).run(feeds);
    for (const [name, { data, dims }] of Object.entries(expected)) {
      expect(found[name].dims).toEqual(dims);
      for (const [i, value] of (data as Float32Array).entries()) {
        expect(Number(found[name].data[i])).toBeCloseTo(value, 3);
      }
    }
  });
});

function firstFeeds(graph: Graph, parameters: readonly string[]) {
  const moments = parameters.flatMap((parameter) => {
    const sizes = graph.weights.get(parameter)!.stored.shape;
    return names
      .state(parameter)
      .map((name, i) => [name, tensorOf(normals(i, sizes, i === 2 ? 0 : 1))] as const);
  });
  return {
    ...Object.fromEntries(moments),
    ...Object.fromEntries(
      Object.entries(adamFeeds(0.01, 1, adamDefaults)).map(([name, data]) => [
        name,
        tensor('float32', [], data),
      ]),
    ),
    x: tensorOf(normals(8, [4, 8])),
    targets: tensor('int32', [4], Int32Array.of(1, 7, 10, 0)),
  };
}

const scaleRows = (x: Value): Value => mul(x, scalar(x.graph, 0.5));
