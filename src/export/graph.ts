/** Builds the graph that engines run: one step of decoding, or a whole prompt, with a cache. */

import type { ActivationType } from '../encodings/dense.ts';
import { isInTwo } from '../encodings/block-product.ts';
import type { AccuracyLevel, Encoding } from '../encodings/encoding.ts';
import { lowRank } from '../encodings/low-rank.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { cast, neg, reshape, slice, toEnd } from '../graph/ops.ts';
import { buildWhole } from '../models/build.ts';
import { exitName } from '../models/exits.ts';
import type { Model } from '../models/model.ts';
import { openScope } from '../models/scope.ts';
import type { IntegerCache } from './attention.ts';
import { cachedAttention, sizes } from './attention.ts';
import { cachedConvolution } from './convolution.ts';
import { portable } from './dense.ts';
import { asDequantized } from './dequantized.ts';
import { asQdq } from './qdq.ts';

export interface ExportOptions {
  /** Of activations, dense weights and the cache; float32 where it is not given. Logits are float32 in any case. */
  readonly activations?: ActivationType | undefined;
  /** How products with codes are computed; 0 where it is not given. */
  readonly accuracyLevel?: AccuracyLevel | undefined;
  /**
   * How products with codes are written: ONNX Runtime's operator; "qdq", operators of ONNX alone (see `asQdq`); or
   * "dequantized", weights restored at load (see `asDequantized`).
   */
  readonly products?: 'matmulnbits' | 'qdq' | 'dequantized' | undefined;
  /** Keys and values as integers, for engines on the CPU; see `measureCache`. Floats where it is not given. */
  readonly cache?: IntegerCache | undefined;
}

/**
 * Inputs: input_ids int64 [batch, time], attention_mask int64 [batch, past + time], num_logits_to_keep int64 (0: all,
 * n: the last n tokens'), past_key_values.N.key and .value [batch, keyValueHeads, past, headSize], past_conv.N
 * [batch, hidden, width - 1]. Outputs: logits [batch, kept, vocabulary], present.N.key and .value, present_conv.N, and
 * exits.N.logits of the same tokens as logits where a head stands behind layer N.
 *
 * Sequences of a batch may be padded on the left. Behind a cache, a batch takes one token at a time where the fused
 * attention is used.
 */
export function exportGraph(model: Model, options: ExportOptions = {}): Graph {
  const { activations = 'float32', accuracyLevel: accuracy = 0 } = options;
  const { architecture, config } = model;
  const graph = new Graph();
  const ids = graph.input('input_ids', 'int64', [sizes.batch, sizes.time]);
  const mask = graph.input('attention_mask', 'int64', [sizes.batch, sizes.total]);
  const kept = graph.input('num_logits_to_keep', 'int64', []);
  const { attention, positions } = cachedAttention(graph, config, mask, activations, options.cache);
  const weights = {
    vectors: model.vectors,
    matrices: written(model.matrices, activations, options.products),
  };
  const convolution = cachedConvolution(graph, config, mask, activations);
  const mixers = { attention, convolution, positions };
  const scope = openScope(graph, { config, weights, ...mixers, dtype: activations, accuracy });
  const { logits, exits } = buildWhole(architecture, scope, ids, {
    exits: true,
    seen: (x) => lastTokens(x, kept),
  });
  for (const [layer, value] of exits) graph.output(exitOutput(layer), cast(value, 'float32'));
  // First, where readers of the file look for it.
  graph.outputs.unshift({ name: 'logits', value: cast(logits, 'float32') });
  return graph;
}

/** Name of the output with the logits of the head behind a layer. */
export const exitOutput = (layer: number): string => `${exitName(layer)}.logits`;

/** How precisely the products with codes of a graph are computed. */
export function levelsOf({ nodes }: Graph): readonly AccuracyLevel[] {
  const levels = nodes.flatMap(({ op, attributes, inputs }) =>
    op === 'MatMulNBits' ? [isInTwo(inputs[0]!) ? 0 : (attributes.accuracy_level as AccuracyLevel)] : [],
  );
  return [...new Set(levels)].sort();
}

/** The last tokens' hidden states, all of them for 0: a prompt's other logits are never computed. */
function lastTokens(x: Value, kept: Value): Value {
  return slice(x, 1, reshape(neg(kept), [1]), toEnd, 'kept_length');
}

type Products = NonNullable<ExportOptions['products']>;

const forms = { qdq: asQdq, dequantized: asDequantized } as const;

/** Matrices as the graph is to compute with them; what names share they share still. */
function written(
  matrices: ReadonlyMap<string, Encoding>,
  type: ActivationType,
  products: Products = 'matmulnbits',
): Map<string, Encoding> {
  const known = new Map<Encoding, Encoding>();
  const asWritten = (encoding: Encoding): Encoding => {
    const found = known.get(encoding) ?? inForm(encoding);
    known.set(encoding, found);
    return found;
  };
  const inForm = (encoding: Encoding): Encoding => {
    const { bits, tensors, factors } = encoding;
    if (factors) return lowRank(asWritten(factors.down), asWritten(factors.up));
    const weight = bits >= 16 ? tensors.get('weight') : undefined;
    if (weight) return portable(weight, type);
    return products === 'matmulnbits' ? encoding : forms[products](encoding);
  };
  return new Map([...matrices].map(([name, encoding]) => [name, asWritten(encoding)]));
}
