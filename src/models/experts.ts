/**
 * A feed-forward that is a mixture of experts, in plain nodes: every expert computes every token, those that a token is not
 * sent to on zeros and for nothing. So the graph differentiates, and what an expert is fed, zeros aside, is what it is sent.
 */

import type { Value } from '../graph/graph.ts';
import {
  add,
  cast,
  div,
  gatherElements,
  greater,
  mul,
  reduceSum,
  scalar,
  scatterElements,
  softmax,
  split,
  topK,
  zeros,
} from '../graph/ops.ts';
import type { ExpertsPlan } from './model.ts';

/** What each expert is told of each token, [batch, time, 1]. */
interface Sent {
  /** 1 where the token is sent to it, else 0. */
  readonly chosen: Value;
  /** What its output counts by; 0 where the token is not sent to it. */
  readonly weight: Value;
}

/**
 * The weighted sum of what experts make of x.
 * @param x [batch, time, hidden]
 * @param scores of experts [batch, time, count]
 * @param expert the feed-forward of each, which gives zeros for zeros: it has no biases
 */
export function mixture(
  x: Value,
  scores: Value,
  plan: ExpertsPlan,
  expert: (x: Value, index: number) => Value,
): Value {
  const outputs = routed(scores, plan).map(({ chosen, weight }, index) =>
    mul(expert(mul(x, cast(chosen, x.dtype)), index), cast(weight, x.dtype)),
  );
  return outputs.reduce((sum, output) => add(sum, output));
}

/** By softmax over all experts, in float32; the largest are taken (Qwen 3, OLMoE, Mixtral). */
function routed(scores: Value, { count, perToken, normalized }: ExpertsPlan): readonly Sent[] {
  const shares = softmax(cast(scores, 'float32'));
  const [, indices] = topK(shares, perToken);
  const largest = gatherElements(shares, indices, -1);
  const taken = normalized ? div(largest, reduceSum(largest, [-1], true)) : largest;
  const weights = scatterElements(zeros(shares.graph, 'float32', shares.shape), indices, taken, -1);
  const each = (value: Value) => (count === 1 ? [value] : split(value, new Array<number>(count).fill(1), -1));
  const chosen = each(cast(greater(weights, scalar(weights.graph, 0)), 'float32'));
  return each(weights).map((weight, index) => ({ weight, chosen: chosen[index]! }));
}
