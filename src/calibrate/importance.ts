/**
 * How much the model's predictions depend on a linear layer's output for each token: the squared norm of the gradient of
 * the predictions, in the metric of their Fisher information, to which KL divergence comes down for small changes. A Gram
 * matrix that weighs tokens by it tells errors that change the text from those that nobody would notice: Kim
 * et al. 2025, GuidedQuant, arXiv:2505.07004, with one group of outputs; the input side of Tseng et al. 2025, YAQA,
 * arXiv:2505.22988.
 *
 * At each position a random vector with the covariance diag(p) - p p^T of the logits' Fisher information flows back:
 * sqrt(p) r - p (sqrt(p) . r) for random signs r, which is the gradient of 2 sum r sqrt(p). Every position has its own
 * signs, so that what flows back from later ones adds up without cross terms on average.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { elementCount } from '../base/tensor.ts';
import type { Random } from '../base/random.ts';
import { random } from '../base/random.ts';
import { gradient } from '../graph/gradient.ts';
import type { Value } from '../graph/graph.ts';
import { exp, logSoftmax, matmul, mul, reduceSum, reshape, scalar, transpose } from '../graph/ops.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Gradients, GradientsAsked, TokenImportance } from '../contract/gradients.ts';
import type { Model } from '../models/model.ts';
import type { Part, Runner } from '../models/runner.ts';
import { openRunner } from '../models/runner.ts';
import { linearLayers } from '../models/size.ts';
import { fewestTokens, hiddenOf } from './streams.ts';
import { steadyThreads } from './threads.ts';

/** The names of all linear layers in blocks, and of the blocks. */
export function everyLayer(model: Model): ReadonlySet<string> {
  const { architecture, config } = model;
  const layers = linearLayers(model).flatMap(({ name, layer }) => (layer === undefined ? [] : [name]));
  return new Set([...layers, ...[...config.layers.keys()].map((layer) => architecture.layerName(layer))]);
}

export interface ImportanceOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly seed: number;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Tokens of a run through a block; a few hold much while they flow back. */
const batchTokens = 1024;
/** Hidden states that are kept between all blocks, at most, unless a single run has more. */
const stateBytes = 2 ** 28;
/** Logits of a run through the head. */
const logitsAtOnce = 2 ** 24;

/**
 * All that is asked, from one pass back.
 * @param sequences token ids, all of one length
 * @throws LapidaryError where a gradient is not finite
 */
export async function predictionGradients(
  model: Model,
  sequences: readonly Int32Array[],
  asked: GradientsAsked,
  options: ImportanceOptions,
): Promise<Gradients> {
  const { hidden, layers } = model.config;
  const tokens = sequences.length * sequences[0].length;
  const found = new Map([...(asked.names ?? [])].map((name) => [name, new Float32Array(tokens)]));
  const metrics = asked.metrics ? layers.map(() => new Float32Array(hidden ** 2)) : undefined;
  const sizeOf = (name: string) => elementCount(model.matrices.get(name)!.shape);
  const weights = new Map([...(asked.weights ?? [])].map((name) => [name, new Float32Array(sizeOf(name))]));
  await walkBack(model, sequences, { found, metrics, weights }, options);
  for (const [layer, metric] of metrics?.entries() ?? [])
    divide(metric, tokens, model.architecture.layerName(layer));
  for (const [name, squares] of weights) divide(squares, tokens, name);
  return {
    importance: new Map([...found].map(([name, squares]) => [name, normalized(name, squares)])),
    metrics,
    weights,
  };
}

/** In place. @throws LapidaryError where a sum is not finite */
function divide(sums: Float32Array, count: number, name: string): void {
  for (let i = 0; i < sums.length; i++) sums[i] /= count;
  if (!sums.every(Number.isFinite)) throw notFinite(name);
}

interface Wanted {
  /** By name of a layer or block: squared gradients of its tokens are written here. */
  readonly found: ReadonlyMap<string, Float32Array>;
  /** By block: sums of g g^T are added to these. */
  readonly metrics?: readonly Float32Array[] | undefined;
  /** By matrix: squared gradients of its weights are added to these. */
  readonly weights: ReadonlyMap<string, Float32Array>;
}

interface Work extends Wanted {
  readonly runner: Runner;
  readonly source: Random;
  readonly signal: AbortSignal | undefined;
}

/** All sequences through the model and back, a few at a time. */
async function walkBack(
  model: Model,
  sequences: readonly Int32Array[],
  wanted: Wanted,
  { seed, progress, signal, device, threads }: ImportanceOptions,
): Promise<void> {
  const [{ length }] = sequences;
  const session = { device, threads: steadyThreads(model, fewestTokens(sequences, batchTokens), threads) };
  const runner = openRunner(model, { ...session, longest: length });
  const work: Work = { ...wanted, runner, source: random(seed).fork('importance'), signal };
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
  let flows = await fromHead(work, batches.pop()!);
  for (const layer of [...layers.keys()].reverse())
    flows = await back(work, layer, batches.pop()!, flows, first);
}

/** What flows back from the predictions into the last hidden states. */
async function fromHead({ runner, source, signal }: Work, hidden: readonly Tensor[]): Promise<Tensor[]> {
  const { vocabulary } = runner.model.config;
  const atOnce = Math.max(1, Math.floor(logitsAtOnce / vocabulary));
  const stage = await runner.head({
    extensionOnly: true,
    extend({ graph, input, output }) {
      const roots = exp(mul(logSoftmax(output), scalar(graph, 0.5)));
      const sum = reduceSum(mul(roots, graph.input('signs', 'float32', output.shape)), [0, 1, 2]);
      graph.output('dx', gradient(mul(sum, scalar(graph, 2)), [input])[0]);
    },
  });
  const signs = new Float32Array(atOnce * vocabulary);
  const flows = await each(hidden, signal, async ({ data, dims: [rows, time, width] }) => {
    const [values, flow] = [data as Float32Array, new Float32Array(rows * time * width)];
    for (let from = 0; from < rows * time; from += atOnce) {
      const count = Math.min(atOnce, rows * time - from);
      const { dx } = await stage.run({
        x: tensor('float32', [1, count, width], values.subarray(from * width, (from + count) * width)),
        signs: tensor(
          'float32',
          [1, count, vocabulary],
          randomSigns(source, signs.subarray(0, count * vocabulary)),
        ),
      });
      flow.set(dx.data as Float32Array, from * width);
    }
    return tensor('float32', [rows, time, width], flow);
  });
  await stage.release();
  return flows;
}

/** 1 or -1, a bit of the source for each. */
function randomSigns({ integer }: Random, target: Float32Array): Float32Array {
  for (let i = 0, bits = 0; i < target.length; i++, bits >>>= 1) {
    if (i % 32 === 0) bits = integer(2 ** 32);
    target[i] = bits & 1 ? 1 : -1;
  }
  return target;
}

/** Through a block; notes the squared gradients of its linear layers' outputs on the way. */
async function back(
  { runner, found, metrics, weights, signal }: Work,
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
    for (const [place, [, squares]] of own.entries())
      addTo(squares, outputs[weightName(place)].data as Float32Array);
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
 * Squares of what flows back to weights. The signs of positions are independent, so that the square of their sum is the
 * sum of their squares on average.
 * @param names within the block
 */
function addWeightGradients({ graph, output }: Part, dy: Value, names: readonly string[]): void {
  const loss = reduceSum(mul(output, dy), [0, 1, 2]);
  const values = names.map((name) => graph.weights.get(`${name}.weight`)!.value);
  for (const [index, g] of gradient(loss, values).entries()) graph.output(weightName(index), mul(g, g));
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

/** All tokens weigh alike where nothing hangs on the layer. */
function normalized(name: string, squares: Float32Array): TokenImportance {
  const mean = squares.reduce((sum, value) => sum + value, 0) / squares.length;
  if (!Number.isFinite(mean)) {
    throw notFinite(name);
  }
  return { weights: squares.map((value) => (mean > 0 ? value / mean : 1)), mean };
}

function notFinite(where: string): LapidaryError {
  return new LapidaryError({
    what: 'gradients of the predictions are not finite',
    where,
    expected: 'finite numbers',
    fix: 'check that the checkpoint is whole; or weigh all tokens alike (fisher 0)',
  });
}
