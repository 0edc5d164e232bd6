/**
 * One pass through a model and back, block by block: what flows back from the predictions, and what it comes to in each
 * block. Hidden states between all blocks are kept, of a few sequences at a time.
 */

import type { Progress } from '../base/progress.ts';
import { gradient } from '../graph/gradient.ts';
import type { Value } from '../graph/graph.ts';
import { matmul, mul, reduceSum, reshape, transpose } from '../graph/ops.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { Part, Runner } from '../models/runner.ts';
import { openRunner } from '../models/runner.ts';
import { fewestTokens, hiddenOf } from './streams.ts';
import { steadyThreads } from './threads.ts';

/** How the pass runs; nothing of it changes what it finds. */
export interface BackwardOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Tokens of a run through a block; a few hold much while they flow back. */
const batchTokens = 1024;
/** Hidden states that are kept between all blocks, at most, unless a single run has more. */
const stateBytes = 2 ** 28;
/** Logits of a run through the head. */
const logitsAtOnce = 2 ** 24;

/** What is noted on the way back. */
export interface Wanted {
  /** By name of a layer or block: squared gradients of its tokens are written here. */
  readonly found: ReadonlyMap<string, Float32Array>;
  /** By block: sums of g g^T are added to these. */
  readonly metrics?: readonly Float32Array[] | undefined;
  /** By matrix: gradients of its weights are added to these, each squared or as it is. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly squared: boolean;
}

/** What flows back from the predictions: the gradient of a scalar of the logits and of numbers that are given for each. */
export interface Flow {
  scalar(logits: Value, given: Value): Value;
  /**
   * Fills in the numbers of some positions, [positions, vocabulary].
   * @param first of them among all tokens of the text, one sequence after the other
   */
  fill(given: Float32Array, first: number, vocabulary: number): void;
}

interface Work extends Wanted {
  readonly runner: Runner;
  readonly flow: Flow;
  readonly signal: AbortSignal | undefined;
}

/** All sequences through the model and back, a few at a time. */
export async function walkBack(
  model: Model,
  sequences: readonly Int32Array[],
  wanted: Wanted & { readonly flow: Flow },
  { progress, signal, device, threads }: BackwardOptions,
): Promise<void> {
  const [{ length }] = sequences;
  const session = { device, threads: steadyThreads(model, fewestTokens(sequences, batchTokens), threads) };
  const runner = openRunner(model, { ...session, longest: length });
  const work: Work = { ...wanted, runner, signal };
  const kept = (model.config.layers.length + 1) * length * model.config.hidden * 4;
  const atOnce = Math.max(Math.floor(batchTokens / length), Math.floor(stateBytes / kept), 1);
  try {
    for (let from = 0; from < sequences.length; from += atOnce) {
      progress?.({ phase: 'weigh tokens', done: from, total: sequences.length });
      await throughAll(work, sequences.slice(from, from + atOnce), from * length);
    }
  } finally {
    await runner.release();
  }
}

/** Forward and back again. @param first the place of the first token among all */
async function throughAll(work: Work, sequences: readonly Int32Array[], first: number): Promise<void> {
  const { runner, signal } = work;
  const { layers } = runner.model.config;
  const batches = [await hiddenOf(runner, sequences, undefined, signal, batchTokens)];
  for (const layer of layers.keys()) {
    const stage = await runner.block(layer);
    batches.push(await each(batches[layer], signal, async (x) => (await stage.run({ x })).hidden));
    await stage.release();
  }
  let flows = await fromHead(work, batches.pop()!, first);
  for (const layer of [...layers.keys()].reverse())
    flows = await back(work, layer, batches.pop()!, flows, first);
}

/** What flows back from the predictions into the last hidden states. @param first the place of the first token among all */
async function fromHead(
  { runner, flow, signal }: Work,
  hidden: readonly Tensor[],
  first: number,
): Promise<Tensor[]> {
  const { vocabulary } = runner.model.config;
  const atOnce = Math.max(1, Math.floor(logitsAtOnce / vocabulary));
  const stage = await runner.head({
    extensionOnly: true,
    extend({ graph, input, output }) {
      const scalar = flow.scalar(output, graph.input('given', 'float32', output.shape));
      graph.output('dx', gradient(scalar, [input])[0]);
    },
  });
  const room = new Float32Array(atOnce * vocabulary);
  let at = first;
  const flows = await each(hidden, signal, async ({ data, dims: [rows, time, width] }) => {
    const [values, back] = [data as Float32Array, new Float32Array(rows * time * width)];
    for (let from = 0; from < rows * time; from += atOnce) {
      const count = Math.min(atOnce, rows * time - from);
      const given = room.subarray(0, count * vocabulary);
      flow.fill(given, at + from, vocabulary);
      const { dx } = await stage.run({
        x: tensor('float32', [1, count, width], values.subarray(from * width, (from + count) * width)),
        given: tensor('float32', [1, count, vocabulary], given),
      });
      back.set(dx.data as Float32Array, from * width);
    }
    at += rows * time;
    return tensor('float32', [rows, time, width], back);
  });
  await stage.release();
  return flows;
}

/** Through a block; notes the squared gradients of its linear layers' outputs on the way. */
async function back(
  { runner, found, metrics, weights, squared, signal }: Work,
  layer: number,
  hidden: readonly Tensor[],
  flows: readonly Tensor[],
  first: number,
): Promise<Tensor[]> {
  const noted: string[] = [];
  const block = runner.model.architecture.layerName(layer);
  const own = [...weights].filter(([name]) => name.startsWith(`${block}.`));
  const stage = await runner.block(layer, {
    extensionOnly: true,
    extend(part) {
      const dy = part.graph.input('dy', 'float32', part.output.shape);
      noted.push(...addGradients(part, dy, block, found));
      if (metrics) addMetric(dy);
      if (own.length > 0)
        addWeightGradients(
          part,
          dy,
          own.map(([name]) => name.slice(block.length + 1)),
          squared,
        );
    },
  });
  const next: Tensor[] = [];
  let at = first;
  for (const [index, x] of hidden.entries()) {
    signal?.throwIfAborted();
    const outputs = await stage.run({ x, dy: flows[index] });
    for (const [place, name] of noted.entries())
      found.get(name)!.set(outputs[squareName(place)].data as Float32Array, at);
    if (metrics) addTo(metrics[layer], outputs[metricName].data as Float32Array);
    for (const [place, [, sums]] of own.entries())
      addTo(sums, outputs[weightName(place)].data as Float32Array);
    next.push(outputs.dx);
    at += x.dims[0] * x.dims[1];
  }
  await stage.release();
  return next;
}

const squareName = (index: number): string => `squares.${index}`;

/** @returns the linear layers, and the block, whose gradients are outputs, in their order */
function addGradients(
  { graph, scope, input, output }: Part,
  dy: Value,
  block: string,
  wanted: ReadonlyMap<string, unknown>,
): string[] {
  const outputs = [...scope.linears].map(([name, linear]) => [name, linear.output] as const);
  const noted = [...outputs, [block, output] as const].filter(([name]) => wanted.has(name));
  const loss = reduceSum(mul(output, dy), [0, 1, 2]);
  const [dx, ...gradients] = gradient(loss, [input, ...noted.map(([, value]) => value)]);
  graph.output('dx', dx);
  for (const [index, g] of gradients.entries())
    graph.output(squareName(index), reshape(reduceSum(mul(g, g), [-1]), [-1]));
  return noted.map(([name]) => name);
}

const weightName = (index: number): string => `weights.${index}`;

/**
 * What flows back to weights, or its squares. The signs of positions, where these flow back, are independent, so that the square of their sum is the
 * sum of their squares on average.
 * @param names within the block
 */
function addWeightGradients(
  { graph, output }: Part,
  dy: Value,
  names: readonly string[],
  squared: boolean,
): void {
  const loss = reduceSum(mul(output, dy), [0, 1, 2]);
  const values = names.map((name) => graph.weights.get(`${name}.weight`)!.value);
  for (const [index, g] of gradient(loss, values).entries())
    graph.output(weightName(index), squared ? mul(g, g) : g);
}

const metricName = 'metric';

/** Of what flows back into the block: g^T g over all tokens. */
function addMetric(dy: Value): void {
  const flow = reshape(dy, [-1, dy.shape[2]]);
  dy.graph.output(metricName, matmul(transpose(flow), flow));
}

function addTo(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += values[i];
}

async function each(
  batches: readonly Tensor[],
  signal: AbortSignal | undefined,
  run: (batch: Tensor) => Promise<Tensor>,
): Promise<Tensor[]> {
  const results: Tensor[] = [];
  for (const batch of batches) {
    signal?.throwIfAborted();
    results.push(await run(batch));
  }
  return results;
}
