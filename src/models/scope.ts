/**
 * What an architecture's functions see of a graph: it finds weights by name, checks their shapes, places them and
 * remembers which linear layer was fed which value.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Stored } from '../base/tensor.ts';
import { elementCount } from '../base/tensor.ts';
import type { ActivationType } from '../encodings/dense.ts';
import { retyped } from '../encodings/dense.ts';
import type { AccuracyLevel, Encoding, Place } from '../encodings/encoding.ts';
import type { Graph, Node, Value } from '../graph/graph.ts';
import { add } from '../graph/ops.ts';
import type { Configuration, Scope } from './model.ts';

/** Where weights come from; a `Model` is one. */
export interface WeightSource {
  readonly matrices: { get(name: string): Encoding | undefined };
  readonly vectors: { get(name: string): Stored | undefined };
}

/** How q, k and v are mixed: see `Scope.attention`. Shapes there. */
export type Attention = (q: Value, k: Value, v: Value, layer: number) => Value;

/** How a convolution knows what came before: see `Scope.convolution`. */
export type Convolution = Scope['convolution'];

export interface ScopeOptions {
  readonly config: Configuration;
  readonly weights: WeightSource;
  readonly attention: Attention;
  readonly convolution: Convolution;
  /** Int64 [batch or 1, time]; asked for once a graph, and only by architectures that need it. */
  readonly positions: () => Value;
  /** Of activations; float32 where it is not given. */
  readonly dtype?: ActivationType;
  /** How products are computed where an encoding leaves the choice. */
  readonly accuracy?: AccuracyLevel;
  /** Left out of the names that weights get in the graph, so that the graphs of equal layers are equal. */
  readonly prefix?: string;
}

/** A linear layer as it was built. */
export interface LinearUse {
  /** The value it was given, [..., in]: layers with the same one share their statistics. */
  readonly input: Value;
  readonly output: Value;
  readonly encoding: Encoding;
  /** What the product is made of. */
  readonly nodes: readonly Node[];
}

export interface RecordingScope extends Scope {
  /** Every linear layer, by its matrix's name, in the order of building. */
  readonly linears: ReadonlyMap<string, LinearUse>;
  /** What every table was looked up by, by its matrix's name: the graph's token ids, or positions. */
  readonly tables: ReadonlyMap<string, Value>;
}

/** @throws LapidaryError while building, on a weight that is missing or has another shape. */
export function openScope(graph: Graph, options: ScopeOptions): RecordingScope {
  const { config, weights, dtype = 'float32', prefix = '' } = options;
  const linears = new Map<string, LinearUse>();
  const tables = new Map<string, Value>();
  const inGraph = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name);
  // What several names share stands in the graph once, under the first of them, though it may be decoded for each use.
  const places = new Map<Encoding, Place>();
  const placeOf = (name: string, encoding: Encoding): Place => {
    const values = new Map<string, Value>();
    const place: Place = (suffix, tensor) => {
      const known = values.get(suffix);
      if (known?.dtype === tensor.dtype) return known;
      const value = graph.weight(`${inGraph(name)}.${suffix}`, tensor);
      values.set(suffix, value);
      return value;
    };
    const known = places.get(encoding) ?? place;
    places.set(encoding, known);
    return known;
  };
  let positions: Value | undefined;

  const vector = (name: string, size: number | readonly number[]) => {
    const tensor = weights.vectors.get(name) ?? missing(name);
    checkShape(name, tensor.shape, typeof size === 'number' ? [size] : size);
    return graph.weight(inGraph(name), inType(tensor, dtype));
  };
  return {
    config,
    linears,
    tables,
    vector,
    attention: options.attention,
    convolution: options.convolution,
    positions: () => {
      positions ??= options.positions();
      return positions;
    },
    linear(name, x, width, bias) {
      const encoding = weights.matrices.get(name) ?? missing(`${name}.weight`);
      checkShape(`${name}.weight`, encoding.shape, [width, x.shape[x.shape.length - 1] as number]);
      const first = graph.nodes.length;
      const product = encoding.multiply(x, placeOf(name, encoding), { accuracy: options.accuracy });
      const output = bias === undefined ? product : add(product, vector(bias, width));
      linears.set(name, { input: x, output, encoding, nodes: graph.nodes.slice(first) });
      return output;
    },
    embedding(name, ids, rows = config.vocabulary) {
      const encoding = weights.matrices.get(name) ?? missing(`${name}.weight`);
      checkShape(`${name}.weight`, encoding.shape, [rows, config.hidden]);
      tables.set(name, ids);
      return encoding.gather(ids, placeOf(name, encoding), dtype);
    },
  };
}

/** One converted tensor for each original, so that a graph sees the same one twice where it is used twice. */
const converted = new WeakMap<Stored, Map<ActivationType, Stored>>();

function inType(tensor: Stored, dtype: ActivationType): Stored {
  if (tensor.dtype === dtype) return tensor;
  const versions = converted.get(tensor) ?? new Map<ActivationType, Stored>();
  converted.set(tensor, versions);
  const version = versions.get(dtype) ?? retyped(tensor, dtype);
  versions.set(dtype, version);
  return version;
}

function missing(name: string): never {
  throw new LapidaryError({
    what: 'the checkpoint lacks a tensor that its architecture needs',
    where: name,
    fix: 'check that all shards are there and that config.json belongs to them',
  });
}

function checkShape(name: string, found: readonly number[], expected: readonly number[]): void {
  if (found.length === expected.length && found.every((size, i) => size === expected[i])) return;
  throw new LapidaryError({
    what: 'a tensor has another shape than config.json says',
    where: name,
    expected: `[${expected.join(', ')}] (${elementCount(expected)} elements)`,
    found: `[${found.join(', ')}]`,
    fix: 'check that config.json belongs to these weights',
  });
}
