/**
 * GPTQ of one layer, ours against the authors' code (IST-DASLab/gptq) on PyTorch, on the same weight and the same
 * Hessian, in turns; one JSON line a shape. Timed is everything from the Hessian to the quantized layer: ours includes
 * packing. Both take 4 bits, zero points, the range of all values and the columns in their order. The output error is
 * ||X(W'-W)^T|| / ||X W^T||, from the Hessian.
 *
 *   npx tsx bench/peers/gptq/run.ts --authors FOLDER --python PYTHON [--shapes 4096x4096,576x1536] [--rounds 3]
 *
 * FOLDER is a clone of https://github.com/IST-DASLab/gptq; PYTHON has torch, transformers and safetensors.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toFloat32 } from '../../../src/base/half.ts';
import { random } from '../../../src/base/random.ts';
import { stored } from '../../../src/base/tensor.ts';
import { median } from '../../../src/evaluate/bootstrap.ts';
import { Graph } from '../../../src/graph/graph.ts';
import { fusedMatmul } from '../../../src/graph/ops.ts';
import { openSession, tensor } from '../../../src/graph/session.ts';
import { openSafetensors } from '../../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../../src/io/safetensors/write.ts';
import { gptq } from '../../../src/methods/quantize/gptq.ts';

const { values: flags } = parseArgs({
  options: {
    authors: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    shapes: { type: 'string', default: '4096x4096,576x1536,1536x576' },
    rounds: { type: 'string', default: '3' },
    repeats: { type: 'string', default: '3' },
  },
});
if (!flags.authors) throw new Error('--authors FOLDER: a clone of https://github.com/IST-DASLab/gptq');
const { authors, python } = flags;
const [rounds, repeats] = [Number(flags.rounds), Number(flags.repeats)];
const [bits, group] = [4, 128] as const;

const multiply = await product(false);
const gramOf = await product(true);

/** a b, or a^T b. */
async function product(transA: boolean) {
  const graph = new Graph();
  const [a, b] = [
    graph.input('a', 'float32', ['m', 'k']),
    graph.input('b', 'float32', [transA ? 'm' : 'k', 'n']),
  ];
  graph.output('y', fusedMatmul(a, b, { transA }));
  const session = await openSession(graph, { spinning: false });
  return async (x: Float32Array, y: Float32Array, k: number, n: number): Promise<Float32Array> => {
    const feeds = { a: tensor('float32', [x.length / k, k], x), b: tensor('float32', [y.length / n, n], y) };
    return (await session.run(feeds)).y.data as Float32Array;
  };
}

/** Weights of a layer and 2/n X^T X of inputs with outliers and mixed channels. */
async function makeLayer(rows: number, columns: number) {
  const { normal } = random(20261123);
  const tokens = 2 * columns;
  const normals = (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => scale * normal());
  const mix = normals(columns * columns, 1 / Math.sqrt(columns));
  for (let i = 0; i < columns; i++) mix[i * columns + i] += 1;
  const x = Float32Array.from(await multiply(normals(tokens * columns, 1), mix, columns, columns));
  const channels = Float32Array.from({ length: columns }, () => Math.exp(0.7 * normal()));
  x.forEach((value, at) => {
    x[at] = value * channels[at % columns] * Math.sqrt(2 / tokens);
  });
  return {
    weight: normals(rows * columns, 0.05),
    hessian: Float32Array.from(await gramOf(x, x, columns, columns)),
  };
}

async function outputError(
  weight: Float32Array,
  values: Float32Array,
  hessian: Float32Array,
  columns: number,
) {
  const square = async (w: Float32Array) => {
    const product = await multiply(w, hessian, columns, columns);
    return w.reduce((sum, value, at) => sum + value * product[at], 0);
  };
  return Math.sqrt((await square(values.map((value, at) => value - weight[at]))) / (await square(weight)));
}

/** Rate of the engine's own 2048 x 2048 x 2048 product, FLOP/s, best of five. */
async function engineRate(): Promise<number> {
  const n = 2048;
  const a = new Float32Array(n * n).fill(0.5);
  return (2 * n ** 3) / Math.min(...(await times(5, () => multiply(a, a, n, n))));
}

async function times(count: number, run: () => Promise<unknown>): Promise<number[]> {
  const seconds: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await run();
    seconds.push((performance.now() - start) / 1000);
  }
  return seconds;
}

const show = (value: number): number => Number(value.toPrecision(4));

const folder = mkdtempSync(join(tmpdir(), 'gptq-'));
try {
  for (const shape of flags.shapes.split(',')) {
    const [rows, columns] = shape.split('x').map(Number);
    const { weight, hessian } = await makeLayer(rows, columns);
    const [layer, result] = [join(folder, 'layer.safetensors'), join(folder, 'result.safetensors')];
    const tensors = [
      ['weight', stored('float32', [rows, columns], weight)],
      ['hessian', stored('float32', [columns, columns], hessian)],
    ] as const;
    await writeSafetensors(layer, new Map(tensors));

    const options = gptq.options.parse({ bits, group, range: 'minmax', activationOrder: false });
    const [ours, theirs]: number[][] = [[], []];
    const rates: number[] = [];
    const [values, gram] = [new Float32Array(weight.length), new Float32Array(hessian.length)];
    let encoded: Awaited<ReturnType<typeof gptq.compress>> | undefined;
    for (let round = 0; round < rounds; round++) {
      const command = [new URL('authors.py', import.meta.url).pathname, authors, layer, result];
      const output = execFileSync(python, [...command, `${bits}`, `${group}`, `${repeats}`], {
        encoding: 'utf8',
      });
      theirs.push(...(JSON.parse(output.trim().split('\n').at(-1)!) as { seconds: number[] }).seconds);
      rates.push(await engineRate());
      for (let repeat = 0; repeat <= repeats; repeat++) {
        values.set(weight);
        gram.set(hessian);
        const start = performance.now();
        encoded = await gptq.compress({ rows, columns, values }, { tokens: 0, gram }, options);
        // The first of the first round compiles kernels and opens sessions; PyTorch has its start-up untimed, too.
        if (repeat > 0) ours.push((performance.now() - start) / 1000);
      }
    }
    const peer = toFloat32(openSafetensors(result).tensors.get('weight')!);
    const flops = columns ** 3 / 3 + rows * columns ** 2;
    console.log(
      JSON.stringify({
        bench: 'gptq layer against its authors',
        shape,
        bits,
        group,
        ours: show(median(ours)),
        authors: show(median(theirs)),
        ratio: show(median(ours) / median(theirs)),
        best: { ours: show(Math.min(...ours)), authors: show(Math.min(...theirs)) },
        bestRatio: show(Math.min(...ours) / Math.min(...theirs)),
        error: {
          ours: show(await outputError(weight, encoded!.dense(), hessian, columns)),
          authors: show(await outputError(weight, peer, hessian, columns)),
        },
        engineGflops: Math.round(Math.max(...rates) / 1e9),
        shareOfEngine: show(flops / Math.min(...ours) / Math.max(...rates)),
      }),
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
