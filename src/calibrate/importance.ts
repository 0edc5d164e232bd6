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
import { elementCount } from '../base/tensor.ts';
import type { Random } from '../base/random.ts';
import { random } from '../base/random.ts';
import { exp, logSoftmax, mul, reduceSum, scalar } from '../graph/ops.ts';
import type { Gradients, GradientsAsked, TokenImportance } from '../contract/gradients.ts';
import type { Model } from '../models/model.ts';
import { linearLayers } from '../models/size.ts';
import type { BackwardOptions, Flow } from './backward.ts';
import { walkBack } from './backward.ts';

/** The names of all linear layers in blocks, and of the blocks. */
export function everyLayer(model: Model): ReadonlySet<string> {
  const { architecture, config } = model;
  const layers = linearLayers(model).flatMap(({ name, layer }) => (layer === undefined ? [] : [name]));
  return new Set([...layers, ...[...config.layers.keys()].map((layer) => architecture.layerName(layer))]);
}

export interface ImportanceOptions extends BackwardOptions {
  readonly seed: number;
}

/**
 * All that is asked, from one pass back.
 * @param sequences token ids, all of one length
 * @throws LapidaryError where there is no text, a gradient is not finite, or is asked by weights that are stored as codes
 */
export async function predictionGradients(
  model: Model,
  sequences: readonly Int32Array[],
  asked: GradientsAsked,
  options: ImportanceOptions,
): Promise<Gradients> {
  checkAsked(model, sequences, asked);
  const { hidden, layers } = model.config;
  const tokens = sequences.length * sequences[0].length;
  const found = new Map([...(asked.names ?? [])].map((name) => [name, new Float32Array(tokens)]));
  const metrics = asked.metrics ? layers.map(() => new Float32Array(hidden ** 2)) : undefined;
  const sizeOf = (name: string) => elementCount(model.matrices.get(name)!.shape);
  const sums = (wanted: ReadonlySet<string> = new Set()) =>
    new Map([...wanted].map((name) => [name, new Float32Array(sizeOf(name))]));
  const [weights, slopes] = [sums(asked.weights), sums(asked.slopes)];
  const { names, weights: squares } = asked;
  if (names || asked.metrics || squares)
    await walkBack(
      model,
      sequences,
      { found, metrics, weights, squared: true, flow: signs(options.seed) },
      options,
    );
  if (slopes.size > 0)
    await walkBack(
      model,
      sequences,
      { found: new Map(), weights: slopes, squared: false, flow: nextTokens(sequences) },
      options,
    );
  for (const [layer, metric] of metrics?.entries() ?? [])
    divide(metric, tokens, model.architecture.layerName(layer));
  for (const [name, squares] of weights) divide(squares, tokens, name);
  return {
    importance: new Map([...found].map(([name, squares]) => [name, normalized(name, squares)])),
    metrics,
    weights,
    slopes,
  };
}

function checkAsked(
  { matrices }: Model,
  sequences: readonly Int32Array[],
  { weights = new Set(), slopes = new Set() }: GradientsAsked,
): void {
  if (sequences.length === 0)
    throw new LapidaryError({
      what: 'gradients of predictions need calibration text, and there is none',
      fix: 'give calibration text; a method that asks for gradients says that it needs some',
    });
  for (const name of [...weights, ...slopes]) {
    const found = matrices.get(name);
    // Products with codes have no gradient by the weights.
    if (found?.plain === undefined)
      throw new LapidaryError({
        what: 'there is no gradient by the weights of this matrix',
        where: name,
        expected: 'a matrix of floats',
        found: found?.label ?? 'no matrix of this name',
        fix: 'put the method before what compresses the matrix',
      });
  }
}

/** In place. @throws LapidaryError where a sum is not finite */
function divide(sums: Float32Array, count: number, name: string): void {
  for (let i = 0; i < sums.length; i++) sums[i] /= count;
  if (!sums.every(Number.isFinite)) throw notFinite(name);
}

/**
 * Its gradient is that of the predictions in the metric of their Fisher information: see the file's head. Signs are drawn in
 * the order of the tokens.
 */
function signs(seed: number): Flow {
  const source = random(seed).fork('importance');
  return {
    scalar(logits, given) {
      const roots = exp(mul(logSoftmax(logits), scalar(logits.graph, 0.5)));
      return mul(reduceSum(mul(roots, given), [0, 1, 2]), scalar(logits.graph, 2));
    },
    fill: (given) => void randomSigns(source, given),
  };
}

/** The mean of -log p of the tokens that come next in the text. */
function nextTokens(sequences: readonly Int32Array[]): Flow {
  const [{ length }] = sequences;
  const share = 1 / (sequences.length * (length - 1));
  return {
    scalar: (logits, given) =>
      mul(reduceSum(mul(logSoftmax(logits), given), [0, 1, 2]), scalar(logits.graph, -1)),
    fill(given, first, vocabulary) {
      given.fill(0);
      for (let at = 0; at * vocabulary < given.length; at++) {
        const [sequence, place] = [Math.floor((first + at) / length), (first + at) % length];
        // Behind the last token comes none.
        if (place < length - 1) given[at * vocabulary + sequences[sequence][place + 1]] = share;
      }
    },
  };
}

/** 1 or -1, a bit of the source for each. */
function randomSigns({ integer }: Random, target: Float32Array): Float32Array {
  for (let i = 0, bits = 0; i < target.length; i++, bits >>>= 1) {
    if (i % 32 === 0) bits = integer(2 ** 32);
    target[i] = bits & 1 ? 1 : -1;
  }
  return target;
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
