/** The three parts of a model, and the whole, as graphs. */

import type { ActivationType } from '../encodings/dense.ts';
import type { Dim, Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { range, unsqueeze } from '../graph/ops.ts';
import { plainAttention, tablesIn } from './attention.ts';
import { plainConvolution } from './convolution.ts';
import type { Architecture, Configuration, Model } from './model.ts';
import type { RecordingScope, WeightSource } from './scope.ts';
import { openScope } from './scope.ts';

export interface PlainOptions {
  readonly time: Dim;
  /** The longest sequence the graph will see, where `time` is a name. */
  readonly longest?: number;
  readonly dtype?: ActivationType;
  /** Left out of weights' names. */
  readonly prefix?: string;
}

/** A scope with plain attention and convolutions, positions from 0 and no cache. */
export function plainScope(
  graph: Graph,
  config: Configuration,
  weights: WeightSource,
  options: PlainOptions,
): RecordingScope {
  const { time, longest = config.context } = options;
  const tables = tablesIn(graph, time, typeof time === 'number' ? time : longest);
  return openScope(graph, {
    ...options,
    config,
    weights,
    attention: plainAttention(config, tables),
    convolution: plainConvolution,
    positions: () => unsqueeze(range(graph, time), [0]),
  });
}

/** One block of the model in primitive operators, from the input "x", hidden states, to its output; not yet one of the graph. */
export function blockGraph(model: Model, layer: number, longest: number) {
  const { architecture, config } = model;
  const graph = new Graph('inputs');
  const scope = plainScope(graph, config, model, { time: 'time', longest });
  const x = graph.input('x', 'float32', ['batch', 'time', config.hidden]);
  return { graph, scope, hidden: architecture.block(scope, x, layer) };
}

/** Logits [batch, time, vocabulary]. */
export interface Heads {
  readonly logits: Value;
  /** By the layer that they stand behind. */
  readonly exits: ReadonlyMap<number, Value>;
}

/**
 * All of an architecture, from ids [batch, time] to logits.
 * @param options.exits whether those of exits are asked for, too
 * @param options.seen what heads see of the hidden states; all without it
 */
export function buildWhole(
  architecture: Architecture,
  scope: RecordingScope,
  ids: Value,
  { exits = false, seen = (x) => x }: { readonly exits?: boolean; readonly seen?: (x: Value) => Value } = {},
): Heads {
  const { config } = scope;
  const behind: [number, Value][] = [];
  let x = architecture.embed(scope, ids);
  for (let layer = 0; layer < config.layers.length; layer++) {
    x = architecture.block(scope, x, layer);
    if (exits && config.exits?.includes(layer)) behind.push([layer, x]);
  }
  // The last head first: what exits share with it bears its name.
  const logits = architecture.head(scope, seen(x));
  return {
    logits,
    exits: new Map(behind.map(([layer, x]) => [layer, architecture.head(scope, seen(x), layer)])),
  };
}

export interface WholeGraph {
  readonly graph: Graph;
  /** The input "ids", int64 [batch, time]. */
  readonly ids: Value;
  /** [batch, time, vocabulary]; not yet an output of the graph. */
  readonly logits: Value;
  readonly scope: RecordingScope;
}

/**
 * The whole model in primitive operators, as training differentiates it.
 * @param options.weightsAs see `Graph`; under "inputs" the weights are fed by their checkpoint names
 */
export function wholeGraph(
  model: Model,
  options: {
    readonly weightsAs: 'initializers' | 'inputs';
    readonly batch: Dim;
    readonly time: Dim;
    readonly dtype?: ActivationType;
  },
): WholeGraph {
  const graph = new Graph(options.weightsAs);
  const ids = graph.input('ids', 'int64', [options.batch, options.time]);
  const scope = plainScope(graph, model.config, model, options);
  return { graph, ids, logits: buildWhole(model.architecture, scope, ids).logits, scope };
}
