import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import { floatToBfloat } from '../base/half.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import { dense, denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { grouped } from '../encodings/grouped.ts';
import { restore } from '../encodings/restore.ts';
import { roundedActivations } from '../encodings/rounded.ts';
import { gradient } from '../graph/gradient.ts';
import { Graph } from '../graph/graph.ts';
import { encodeModel } from '../graph/onnx.ts';
import { add, floats, fusedMatmul, mul, reduceSum, reshape } from '../graph/ops.ts';
import type { Tensor } from '../graph/session.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { plainScope, wholeGraph } from './build.ts';
import type { Model } from './model.ts';
import type { Part } from './runner.ts';
import { idsTensor, logits, openRunner } from './runner.ts';

const model = tinyLlama({ tied: false });
const data = (value: Tensor) => value.data as Float32Array;

function mapped(change: (encoding: Encoding) => Encoding): Model {
  return { ...model, matrices: new Map([...model.matrices].map(([name, matrix]) => [name, change(matrix)])) };
}

async function hiddenStates(ids: readonly number[][]) {
  const runner = openRunner(model);
  const embed = await runner.embed();
  const { hidden } = await embed.run({ ids: idsTensor(ids, 10) });
  return { runner, hidden };
}

describe('running a model part by part', () => {
  it('gives a shorter sequence in a batch the logits that it has alone', async () => {
    const short = [3, 1, 4];
    const alone = data(await logits(model, [short]));
    const padded = data(await logits(model, [[2, 7, 1, 8, 2, 8], short]));
    const first = 6 * 10;
    expect(alone.length).toBe(3 * 10);
    alone.forEach((value, i) => {
      expect(padded[first + i]).toBeCloseTo(value, 5);
    });
  });

  it('computes with narrower weights as with their values widened', async () => {
    const narrow = (encoding: Encoding) => {
      const values = stored('bfloat16', encoding.shape, floatToBfloat(encoding.dense()));
      return dense(values);
    };
    const wide = (encoding: Encoding) => denseValues(narrow(encoding).dense(), ...encoding.shape);
    const ids = [[1, 2, 3, 4]];
    expect(data(await logits(mapped(narrow), ids))).toEqual(data(await logits(mapped(wide), ids)));
  });

  it('decodes codes once for all runs of a stage, and leaves products that round their inputs to do so', async () => {
    let decoded = 0;
    const coded = ({ shape: [rows, columns], dense: values }: Encoding) => {
      const codes = Uint8Array.from(values(), (value) =>
        Math.max(0, Math.min(15, 8 + Math.round(8 * value))),
      );
      const scales = new Float32Array(rows).fill(1 / 8);
      const encoding = grouped({ rows, columns, bits: 4, group: -1, codes, scales });
      const kept = encoding.tensors.get('codes')!;
      const counted = { ...kept, bytes: () => (decoded++, kept.bytes()) };
      return restore({ ...encoding, tensors: new Map([...encoding.tensors, ['codes', counted]]) });
    };
    const { runner, hidden } = await hiddenStates([[1, 2, 3]]);
    const run = async (weights: Model) => {
      decoded = 0;
      const stage = await runner.block(0, { weights });
      await stage.run({ x: hidden });
      return data((await stage.run({ x: hidden })).hidden);
    };
    const plain = await run(mapped((encoding) => denseValues(coded(encoding).dense(), ...encoding.shape)));
    expect(await run(mapped(coded))).toEqual(plain);
    expect(decoded).toBe(7);
    expect(await run(mapped((each) => roundedActivations(coded(each), { bits: 2 })))).not.toEqual(plain);
    expect(decoded).toBe(7);
    await runner.release();
  });

  it('builds byte-identical graphs for equal layers', () => {
    const build = (layer: number) => {
      const graph = new Graph('inputs');
      const prefix = `${model.architecture.layerName(layer)}.`;
      const scope = plainScope(graph, model.config, model, { time: 'time', longest: 16, prefix });
      const x = graph.input('x', 'float32', ['batch', 'time', 8]);
      graph.output('hidden', model.architecture.block(scope, x, layer));
      return encodeModel(graph);
    };
    expect(build(0)).toEqual(build(1));
  });

  it('runs a block with other weights than the model has', async () => {
    const { runner, hidden } = await hiddenStates([[1, 2, 3]]);
    const nothing = mapped((encoding) =>
      denseValues(new Float32Array(encoding.dense().length), ...encoding.shape),
    );
    const usual = await (await runner.block(0)).run({ x: hidden });
    const zeroed = await (await runner.block(0, { weights: nothing })).run({ x: hidden });
    expect(data(usual.hidden)).not.toEqual(data(hidden));
    // Without weights only the residual stream is left.
    expect(data(zeroed.hidden)).toEqual(data(hidden));
    await runner.release();
  });

  it('lets others add inputs and outputs: a Gram matrix that is summed over batches', async () => {
    const { runner, hidden } = await hiddenStates([[1, 2, 3]]);
    const name = 'model.layers.0.mlp.down_proj';
    const extend = ({ graph, scope }: Part) => {
      const { input } = scope.linears.get(name)!;
      graph.output('input', input);
      const rows = reshape(input, [-1, 12]);
      const before = graph.input('before', 'float32', [12, 12]);
      graph.output('gram', add(before, fusedMatmul(rows, rows, { transA: true })));
    };
    const stage = await runner.block(0, { extend });
    const start = tensor('float32', [12, 12], new Float32Array(144));
    const first = await stage.run({ x: hidden, before: start });
    const second = await stage.run({ x: hidden, before: first.gram }, ['gram']);
    expect(Object.keys(second)).toEqual(['gram']);
    const x = data(first.input);
    for (const [i, j] of [
      [0, 0],
      [3, 7],
      [11, 2],
    ]) {
      const expected = [0, 1, 2].reduce((sum, row) => sum + x[row * 12 + i] * x[row * 12 + j], 0);
      expect(data(second.gram)[i * 12 + j]).toBeCloseTo(2 * expected, 5);
    }
    await runner.release();
  });

  it('records which linear layers share an input', async () => {
    const runner = openRunner(model);
    let inputs: unknown[] = [];
    await runner.block(1, {
      extend: ({ scope }) => {
        inputs = [...scope.linears.values()].map(({ input }) => input);
      },
    });
    const [q, k, v, o, gate, up, down] = inputs;
    expect(k).toBe(q);
    expect(v).toBe(q);
    expect(up).toBe(gate);
    expect(new Set([q, o, gate, down]).size).toBe(4);
    await runner.release();
  });

  it('refuses ids that the model does not have, and sequences longer than it sees', async () => {
    await expect(logits(model, [[1, 10]])).rejects.toThrowError(/position 1[\s\S]*0 to 9[\s\S]*10/);
    await expect(logits(model, [new Int32Array(17)])).rejects.toThrowError(/at most 16 tokens[\s\S]*17/);
  });
});

describe('the whole model as one graph', () => {
  it('has a gradient that agrees with differences of the loss', async () => {
    const tied = tinyLlama({ tied: true });
    const { graph, logits: scores } = wholeGraph(tied, { weightsAs: 'inputs', batch: 1, time: 5 });
    const { normal } = random(2);
    const direction = Float32Array.from({ length: 50 }, normal);
    const loss = reduceSum(mul(scores, floats(graph, direction, [1, 5, 10])), [0, 1, 2]);
    const weights = [...graph.weights.values()].map(({ value }) => value);
    graph.output('loss', loss);
    gradient(loss, weights).forEach((value, i) => {
      graph.output(`gradient ${weights[i].name}`, value);
    });
    const session = await openSession(graph);
    const feeds = { ...feedsOf(graph.weights), ids: idsTensor([[1, 2, 3, 4, 5]], 10) };
    const at = await session.run(feeds);
    for (const { name, shape } of weights) {
      const weight = feeds[name as keyof typeof feeds].data as Float32Array;
      const along = Float32Array.from(weight, normal);
      const step = 1e-3;
      const moved = async (size: number) => {
        const values = weight.map((value, i) => value + size * along[i]);
        return data(
          (await session.run({ ...feeds, [name]: tensor('float32', shape as number[], values) })).loss,
        )[0];
      };
      const difference = ((await moved(step)) - (await moved(-step))) / (2 * step);
      const slope = data(at[`gradient ${name}`]).reduce((sum, value, i) => sum + value * along[i], 0);
      expect(Math.abs(slope - difference), name).toBeLessThan(0.02 * (1 + Math.abs(slope)));
    }
    await session.release();
  });
});
