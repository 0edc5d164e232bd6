/** Convolutions in exported files: what they see of the tokens before goes in and comes out, by transformers.js's names. */

import type { ActivationType } from '../encodings/dense.ts';
import type { Graph, Value } from '../graph/graph.ts';
import {
  cast,
  causalConvolution,
  mul,
  neg,
  sizeOf,
  slice,
  toEnd,
  transpose,
  unsqueeze,
} from '../graph/ops.ts';
import type { Configuration } from '../models/model.ts';
import type { Convolution } from '../models/scope.ts';
import { sizes } from './attention.ts';

/**
 * Adds, for each layer with a convolution, the input past_conv.N and the output present_conv.N, the values of the last
 * width - 1 tokens [batch, channels, width - 1] in the type of the activations; zeros before the first.
 * @param mask int64 [batch, past + time]: 1 for tokens, 0 for padding
 */
export function cachedConvolution(
  graph: Graph,
  { layers, hidden }: Configuration,
  mask: Value,
  dtype: ActivationType,
): Convolution {
  const pasts = layers.map(({ convolution }, layer) =>
    convolution
      ? graph.input(`past_conv.${layer}`, dtype, [sizes.batch, hidden, convolution.width - 1])
      : undefined,
  );
  let tokens: Value | undefined;
  return (x, { kernel, bias }, layer) => {
    tokens ??= tokensOf(graph, mask, dtype);
    const turned = transpose(mul(x, tokens), [0, 2, 1]);
    const [mixed, present] = causalConvolution(turned, kernel, bias, pasts[layer]!);
    graph.output(`present_conv.${layer}`, present!);
    return transpose(mixed!, [0, 2, 1]);
  };
}

/** Of the tokens at hand: 0 for padding, 1 else [batch, time, 1]. */
function tokensOf(graph: Graph, mask: Value, dtype: ActivationType): Value {
  const own = slice(mask, 1, neg(sizeOf(graph, sizes.time)), toEnd, sizes.time);
  return cast(unsqueeze(own, [2]), dtype);
}
