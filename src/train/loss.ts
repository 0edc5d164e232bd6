/** What training makes small. */

import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  add,
  cast,
  equal,
  logSoftmax,
  mul,
  neg,
  reduceMean,
  reduceSum,
  scale,
  unsqueeze,
} from '../graph/ops.ts';

/**
 * Mean over all positions of -log p(target), in nats.
 * The target's log-probability is picked by a product with its one-hot row, because that differentiates without
 * scattering, which not every device can.
 * @param logits [..., vocabulary]
 * @param targets int32 [...]
 * @param smoothing share of the target's weight that is spread evenly over the vocabulary (Szegedy et al. 2016).
 */
export function crossEntropy(logits: Value, targets: Value, smoothing = 0): Value {
  const { graph } = logits;
  const vocabulary = logits.shape[logits.shape.length - 1] as number;
  const ids = graph.constant(
    stored(
      'int32',
      [vocabulary],
      Int32Array.from({ length: vocabulary }, (_, id) => id),
    ),
  );
  const oneHot = cast(equal(unsqueeze(targets, [-1]), ids), logits.dtype);
  const logProbability = logSoftmax(logits);
  const axes = targets.shape.map((_, axis) => axis);
  const hard = neg(reduceMean(reduceSum(mul(logProbability, oneHot), [-1]), axes));
  if (smoothing === 0) return hard;
  const even = neg(reduceMean(logProbability, [...axes, axes.length]));
  return add(scale(hard, 1 - smoothing), scale(even, smoothing));
}
