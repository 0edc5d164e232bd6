/** A model as the graph that engines run: one step of decoding, or a whole prompt, with a cache. */

import { dense } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { cast, neg, reshape, slice, toEnd } from '../graph/ops.ts';
import type { Model } from '../models/model.ts';
import { openScope } from '../models/scope.ts';
import { cachedAttention, sizes } from './attention.ts';
import type { ActivationType } from './types.ts';
import { inType } from './types.ts';

export interface ExportOptions {
  /** Of activations, dense weights and the cache; float32 where it is not given. Logits are float32 in any case. */
  readonly activations?: ActivationType;
  /** How products with quantized weights are computed: 0 in the activations' type, 4 with 8-bit activations. */
  readonly accuracyLevel?: 0 | 4;
}

/**
 * Inputs: input_ids int64 [batch, time], attention_mask int64 [batch, past + time], num_logits_to_keep int64 (0: all,
 * n: the last n tokens'), past_key_values.N.key and .value [batch, keyValueHeads, past, headSize]. Outputs: logits
 * [batch, kept, vocabulary], present.N.key and .value.
 *
 * Where the fused attention is used and batch is more than 1: sequences padded on the left get wrong results,
 * because the operator counts tokens from the left; and a prompt cannot follow a cache.
 */
export function exportGraph(model: Model, options: ExportOptions = {}): Graph {
  const { activations = 'float32', accuracyLevel = 0 } = options;
  const { architecture, config } = model;
  const graph = new Graph();
  const ids = graph.input('input_ids', 'int64', [sizes.batch, sizes.time]);
  const mask = graph.input('attention_mask', 'int64', [sizes.batch, sizes.total]);
  const kept = graph.input('num_logits_to_keep', 'int64', []);
  const { attention, positions } = cachedAttention(graph, config, mask, activations);
  const weights = { vectors: model.vectors, matrices: inTypeWhereDense(model.matrices, activations) };
  const scope = openScope(graph, { config, weights, attention, positions, dtype: activations });
  let x = architecture.embed(scope, ids);
  for (let layer = 0; layer < config.layers.length; layer++) x = architecture.block(scope, x, layer);
  const logits = architecture.head(scope, lastTokens(x, kept));
  // First, where readers of the file look for it.
  graph.outputs.unshift({ name: 'logits', value: cast(logits, 'float32') });
  setAccuracy(graph, accuracyLevel);
  return graph;
}

/** The last tokens' hidden states, all of them for 0: a prompt's other logits are never computed. */
function lastTokens(x: Value, kept: Value): Value {
  return slice(x, 1, reshape(neg(kept), [1]), toEnd, 'kept_length');
}

/** Dense matrices of another float type would be converted at each start of an engine, or not be taken by it. */
function inTypeWhereDense(
  matrices: ReadonlyMap<string, Encoding>,
  dtype: ActivationType,
): Map<string, Encoding> {
  const denseBits = 16;
  return new Map(
    [...matrices].map(([name, encoding]) => {
      const weight = encoding.bits >= denseBits ? encoding.tensors.get('weight') : undefined;
      return [name, weight ? dense(inType(weight, dtype)) : encoding];
    }),
  );
}

/** How precisely a product is computed is a matter of the file, not of the weights. */
function setAccuracy(graph: Graph, accuracyLevel: number): void {
  graph.nodes.forEach((node, i) => {
    if (node.op !== 'MatMulNBits') return;
    graph.nodes[i] = { ...node, attributes: { ...node.attributes, accuracy_level: accuracyLevel } };
  });
}
