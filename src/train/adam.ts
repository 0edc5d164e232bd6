/**
 * AdamW (Loshchilov and Hutter 2019) as nodes of the graph that holds the gradients: one run of it is one step, and
 * on a device the weights and moments need never leave it.
 *
 *   m' = m + (1 - b1)(g - m)     v' = v + (1 - b2)(g g - v)
 *   w' = w - rate (m' / (1 - b1^t) / (sqrt(v' / (1 - b2^t)) + epsilon) + decay w)
 */

import type { Graph, Value } from '../graph/graph.ts';
import { add, div, min, mul, reciprocal, reduceSum, scalar, scale, sqrt, sub } from '../graph/ops.ts';

export interface AdamOptions {
  /** Decay rates of the first and the second moment. */
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Share of a decayed weight that is taken off a step, in units of the rate. */
  readonly weightDecay: number;
  /** Gradients whose joint norm is larger are scaled to it. */
  readonly clip: number;
}

export const adamDefaults: AdamOptions = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clip: 1,
};

/** The three numbers that change from step to step, as float32 scalars. */
export interface AdamRates {
  /** The rate over 1 - b1^t. */
  readonly step: Value;
  /** 1 / (1 - b2^t). */
  readonly correction: Value;
  /** 1 - rate * decay. */
  readonly keep: Value;
}

export interface AdamParameter {
  readonly weight: Value;
  readonly gradient: Value;
  /** Moments before this step. */
  readonly first: Value;
  readonly second: Value;
  readonly decays: boolean;
}

export interface AdamUpdate {
  readonly weight: Value;
  readonly first: Value;
  readonly second: Value;
}

/** The inputs that `adamFeeds` fills. */
export function adamRates(graph: Graph): AdamRates {
  const input = (name: string) => graph.input(`adam.${name}`, 'float32', []);
  return { step: input('step'), correction: input('correction'), keep: input('keep') };
}

/** @param step counted from 1. */
export function adamFeeds(rate: number, step: number, options: AdamOptions): Record<string, Float32Array> {
  return {
    'adam.step': Float32Array.of(rate / (1 - options.beta1 ** step)),
    'adam.correction': Float32Array.of(1 / (1 - options.beta2 ** step)),
    'adam.keep': Float32Array.of(1 - rate * options.weightDecay),
  };
}

/** The joint norm of all gradients, float32 scalar. */
export function globalNorm(gradients: readonly Value[]): Value {
  const squares = gradients.map((gradient) =>
    reduceSum(
      mul(gradient, gradient),
      gradient.shape.map((_, axis) => axis),
    ),
  );
  return sqrt(squares.reduce(add));
}

/** The weights and moments after one step, in the order of the parameters. */
export function adam(
  parameters: readonly AdamParameter[],
  norm: Value,
  rates: AdamRates,
  options: AdamOptions,
): AdamUpdate[] {
  const { graph } = norm;
  const one = scalar(graph, 1);
  const shrink = min(one, scale(reciprocal(add(norm, scalar(graph, 1e-6))), options.clip));
  return parameters.map(({ weight, gradient, first, second, decays }) => {
    const clipped = mul(gradient, shrink);
    const newFirst = add(first, scale(sub(clipped, first), 1 - options.beta1));
    const newSecond = add(second, scale(sub(mul(clipped, clipped), second), 1 - options.beta2));
    const spread = add(sqrt(mul(newSecond, rates.correction)), scalar(graph, options.epsilon));
    const kept = decays ? mul(weight, rates.keep) : weight;
    return { weight: sub(kept, mul(div(newFirst, spread), rates.step)), first: newFirst, second: newSecond };
  });
}
