import { describe, expect, it } from 'vitest';
import { stored } from '../base/tensor.ts';
import { forCpu } from './cpu.ts';
import { gradient } from './gradient.ts';
import { Graph } from './graph.ts';
import { encodeModel } from './onnx.ts';
import { fusedMatmul, logSoftmax, mul, neg, reduceMean, reduceSum, rmsNorm, silu } from './ops.ts';
import { feedsOf, openSession, tensor } from './session.ts';
import { forWebGpu } from './webgpu.ts';

const wave = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.37 + phase));

/** A small network and the gradients of its weights, over [batch, time, 96]. */
function network(): Graph {
  const graph = new Graph('inputs');
  const x = graph.input('x', 'float32', ['batch', 'time', 96]);
  const scale = graph.weight('scale', stored('float32', [96], wave(96, 2)));
  const up = graph.weight('up', stored('float32', [128, 96], wave(128 * 96, 0)));
  const down = graph.weight('down', stored('float32', [80, 128], wave(80 * 128, 1)));
  const hidden = silu(fusedMatmul(rmsNorm(x, scale, 1e-5), up, { transB: true, alpha: 0.1 }));
  const logits = logSoftmax(fusedMatmul(hidden, down, { transB: true }));
  const target = graph.input('target', 'float32', ['batch', 'time', 80]);
  const loss = neg(reduceMean(reduceSum(mul(logits, target), [-1]), [0, 1]));
  graph.output('loss', loss);
  const weights = [scale, up, down];
  for (const [i, value] of gradient(loss, weights).entries())
    graph.output(`gradient/${weights[i].name}`, value);
  return graph;
}

/** Runs a graph's bytes, so that nothing is rewritten on the way. */
async function results(graph: Graph): Promise<Record<string, readonly number[]>> {
  const session = await openSession(encodeModel(graph));
  const outputs = await session.run({
    x: tensor('float32', [2, 5, 96], wave(960, 3)),
    target: tensor('float32', [2, 5, 80], wave(800, 4).map(Math.abs)),
    ...feedsOf(graph.weights),
  });
  await session.release();
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data as Float32Array)]),
  );
}

describe('a graph rewritten for a device computes the same', () => {
  const rewrites = { cpu: forCpu, webgpu: forWebGpu };
  for (const [device, rewrite] of Object.entries(rewrites)) {
    it(device, async () => {
      const expected = await results(network());
      const graph = rewrite(network());
      const found = await results(graph);
      expect(Object.keys(found)).toEqual(Object.keys(expected));
      for (const [name, values] of Object.entries(expected)) {
        const largest = Math.max(...values.map(Math.abs));
        const differences = values.map((value, i) => Math.abs(value - found[name][i]));
        expect(Math.max(...differences), name).toBeLessThan(1e-5 * largest);
      }
    });
  }

  it('without products by columns on the CPU', () => {
    const byColumns = ({ attributes }: { attributes: object }) =>
      'transA' in attributes && attributes.transA === 1;
    const wide = (graph: Graph) =>
      graph.nodes.filter((node) => byColumns(node) && node.inputs[1]!.shape[1] !== 1);
    expect(wide(network())).toHaveLength(2);
    expect(wide(forCpu(network()))).toHaveLength(0);
  });

  it('and is left alone where the CPU gains nothing', () => {
    const graph = new Graph();
    graph.output('y', neg(graph.input('x', 'float32', [2])));
    expect(forCpu(graph)).toBe(graph);
  });

  it('without operators that WebGPU lacks', () => {
    const lacking = new Set(['FusedMatMul', 'LogSoftmax', 'SimplifiedLayerNormalization']);
    expect(forWebGpu(network()).nodes.filter(({ op }) => lacking.has(op))).toHaveLength(0);
  });
});
