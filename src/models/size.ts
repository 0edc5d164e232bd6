/** Counts a model's parameters, bytes and operations, which follow from its plan and its encodings, before it runs. */

import { elementCount } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes, weightsOf } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { buildWhole, plainScope } from './build.ts';
import { exitOf } from './exits.ts';
import type { Model } from './model.ts';

/**
 * Weights of all matrices (rows times columns, or those of both factors, however they are encoded) and vectors; a tied
 * head, and a matrix that several layers share, count once.
 */
export function parameters(model: Model): number {
  let count = 0;
  for (const encoding of new Set(model.matrices.values())) count += weightsOf(encoding);
  for (const { shape } of model.vectors.values()) count += elementCount(shape);
  return count;
}

/** Bytes of everything that is stored, scales and zero points included; what is shared counts once. */
export function bytes(model: Model): number {
  let sum = 0;
  for (const encoding of new Set(model.matrices.values())) sum += encodedBytes(encoding);
  for (const vector of model.vectors.values()) sum += vector.byteLength;
  return sum;
}

/** Bits stored for each parameter, over the whole model: embeddings, head, norms and biases included. */
export function bitsPerWeight(model: Model): number {
  return (8 * bytes(model)) / parameters(model);
}

/**
 * Multiply-adds of the matrix products that one token passes through to the last head: every linear layer and that head,
 * rows times columns each, or those of both factors; what layers share is multiplied in each. Of experts as many as a token
 * is sent to, by their mean. Left out: looking up the embedding, norms, activations, and the products of attention itself,
 * which grow with the context.
 */
export function multiplyAdds(model: Model): number {
  const shares = expertShares(model);
  return Math.round(
    linearLayers(model).reduce(
      (sum, { name, exit, encoding }) =>
        exit === undefined ? sum + (shares.get(name) ?? 1) * weightsOf(encoding) : sum,
      0,
    ),
  );
}

/** By the matrix of an expert: the share of the tokens that are sent to it, where all are sent to as many. */
function expertShares({ architecture, config }: Model): ReadonlyMap<string, number> {
  const shares = config.layers.flatMap(({ experts }, layer) => {
    const { mixture } = architecture.structure(config, layer);
    if (!experts || !mixture) return [];
    return mixture.experts.flat().map((name) => [name, experts.perToken / experts.count] as const);
  });
  return new Map(shares);
}

export interface LinearLayer {
  /** The matrix's name; for a tied head the embedding's. */
  readonly name: string;
  /** Undefined for heads. */
  readonly layer: number | undefined;
  /** Of a head behind a layer before the last: that layer. */
  readonly exit: number | undefined;
  readonly encoding: Encoding;
}

/** Every linear layer in the order it is computed, the head behind them, exits last. */
export const linearLayers = (model: Model): readonly LinearLayer[] => usesOf(model).linears;

/** The layer that a matrix or vector belongs to, by its name; undefined outside of all. */
export function layerOf(
  { architecture, config }: Pick<Model, 'architecture' | 'config'>,
  name: string,
): number | undefined {
  const index = config.layers.findIndex((_, layer) => name.startsWith(`${architecture.layerName(layer)}.`));
  return index < 0 ? undefined : index;
}

/** Every matrix that rows are looked up in, and by what: a model may have as many positions as tokens. */
export const tables = (model: Model): Uses['tables'] => usesOf(model).tables;

/** What a model's graph does with its matrices. */
interface Uses {
  readonly linears: readonly LinearLayer[];
  readonly tables: ReadonlyMap<string, 'tokens' | 'positions'>;
}

/** A model is a value, asked for its uses again and again, and its graph takes long to build. */
const known = new WeakMap<Model, Uses>();

function usesOf(model: Model): Uses {
  const uses = known.get(model) ?? built(model);
  known.set(model, uses);
  return uses;
}

function built(model: Model): Uses {
  const { architecture, config, ...weights } = model;
  const graph = new Graph('inputs');
  const scope = plainScope(graph, config, weights, { time: 'time', longest: 1 });
  const ids = graph.input('ids', 'int64', ['batch', 'time']);
  buildWhole(architecture, scope, ids, { exits: true });
  const linears = [...scope.linears].map(([name, { encoding }]) => ({
    name,
    layer: layerOf(model, name),
    exit: exitOf(config, name),
    encoding,
  }));
  return {
    linears,
    tables: new Map([...scope.tables].map(([name, by]) => [name, by === ids ? 'tokens' : 'positions'])),
  };
}
