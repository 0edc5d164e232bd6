/**
 * Attention in exported files: a cache of keys and values goes in and comes out. It is the fused operator where that takes the
 * head size and positions are rotary, and plain nodes elsewhere.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { ActivationType } from '../encodings/dense.ts';
import { retyped } from '../encodings/dense.ts';
import type { Graph, Value } from '../graph/graph.ts';
import {
  add,
  and,
  cast,
  concat,
  cos as cosine,
  cumSum,
  expand,
  gather,
  greater,
  groupQueryAttention,
  max,
  mul,
  range,
  reshape,
  scalar,
  scale,
  sin as sine,
  sizeOf,
  slice,
  squeeze,
  sub,
  toEnd,
  transpose,
  unsqueeze,
  where,
} from '../graph/ops.ts';
import { alibiTable } from '../models/alibi.ts';
import { plainAttention, sees, unseen } from '../models/attention.ts';
import type { AlibiPlan, Configuration, RopePlan } from '../models/model.ts';
import { frequenciesOf, rotatedSize, rotaryTables } from '../models/rope.ts';
import type { Attention } from '../models/scope.ts';

/** Names of sizes; transformers.js makes empty caches by reading them off the file. */
export const sizes = {
  batch: 'batch_size',
  time: 'sequence_length',
  past: 'past_sequence_length',
  total: 'past_sequence_length+sequence_length',
} as const;

/** A cache of symmetric integers, each the value by its channel's scale, rounded. */
export interface IntegerCache {
  readonly bits: 4 | 8;
  /** By layer, undefined for those without attention; float32 [1, keyValueHeads, 1, headSize]. */
  readonly scales: readonly ({ readonly key: Stored; readonly value: Stored } | undefined)[];
}

/** Their type in a graph, and how many are in one element of it. */
const integerTypes = { 8: ['int8', 1], 4: ['uint8', 2] } as const;

export interface CachedAttention {
  readonly attention: Attention;
  /** Of the tokens at hand, padding on the left not counted: int64 [batch, time]. */
  positions(): Value;
}

/**
 * Adds inputs past_key_values.N.key and .value [batch, keyValueHeads, past, headSize], and outputs present.N.* that
 * hold the tokens at hand too; both in the type of the activations, or as integers: int8, or uint8 [..., headSize / 2] with
 * two codes of four bits a byte.
 * @param cache scales of integers; without them it holds floats
 * @throws LapidaryError where a cache is to hold integers and a layer's attention is not fused
 * @param mask int64 [batch, past + time]: 1 for tokens, 0 for padding
 */
export function cachedAttention(
  graph: Graph,
  config: Configuration,
  mask: Value,
  dtype: ActivationType,
  cache?: IntegerCache,
): CachedAttention {
  if (cache) checkFused(config);
  const [cacheType, perByte] = cache ? integerTypes[cache.bits] : ([dtype, 1] as const);
  const caches = config.layers.map(({ keyValueHeads, headSize }, layer) => {
    // A layer without attention has none, and is not asked for it.
    if (keyValueHeads === 0) return undefined;
    const input = (part: string) =>
      graph.input(`past_key_values.${layer}.${part}`, cacheType, [
        sizes.batch,
        keyValueHeads,
        sizes.past,
        headSize / perByte,
      ]);
    return { key: input('key'), value: input('value') };
  });
  const shared: Shared = {
    graph,
    mask,
    dtype,
    cache,
    once: memory(),
    past: (layer) => caches[layer]!,
    present(layer, key, value) {
      graph.output(`present.${layer}.key`, key);
      graph.output(`present.${layer}.value`, value);
    },
  };
  return {
    attention(q, k, v, layer) {
      const fused = isFused(config, layer);
      const attention = shared.once(`fused ${fused}`, () =>
        fused ? fusedAttention(config, shared) : plainCachedAttention(config, shared),
      );
      return attention(q, k, v, layer);
    },
    positions: () => positionsOf(graph, mask),
  };
}

/** com.microsoft.GroupQueryAttention rotates by itself only where the head size, and what of it is rotated, is a multiple of this. */
const fusedHeadSize = 16;

/** Whether a layer's attention is one operator: of models with rotary positions, in layers that go without, too. */
export function isFused({ layers }: Configuration, layer: number): boolean {
  const { headSize, rope } = layers[layer];
  const fits = (size: number) => size % fusedHeadSize === 0;
  return layers.some((each) => each.rope) && fits(headSize) && (!rope || fits(rotatedSize(rope, headSize)));
}

interface Cache {
  readonly key: Value;
  readonly value: Value;
}

interface Shared {
  readonly graph: Graph;
  readonly mask: Value;
  readonly dtype: ActivationType;
  readonly cache?: IntegerCache | undefined;
  /** The same value for the same key, made the first time. */
  readonly once: <T>(key: string, make: () => T) => T;
  readonly past: (layer: number) => Cache;
  readonly present: (layer: number, key: Value, value: Value) => void;
}

function memory(): Shared['once'] {
  const made = new Map<string, unknown>();
  return <T>(key: string, make: () => T): T => {
    if (!made.has(key)) made.set(key, make());
    return made.get(key) as T;
  };
}

function fusedAttention(config: Configuration, shared: Shared): Attention {
  const { graph, once } = shared;
  return (query, key, value, layer) => {
    const { heads, keyValueHeads, headSize, window, scale, softcap, rope: plan } = config.layers[layer];
    const { key: pastKey, value: pastValue } = shared.past(layer);
    const total = once('total', () => cast(squeeze(sizeOf(graph, sizes.total), [0]), 'int32'));
    const lengths = once('lengths', () =>
      expand(unsqueeze(sub(total, scalar(graph, 1, 'int32')), [0]), [sizes.batch]),
    );
    const bias = once('bias', () => paddingBias(shared));
    const inputs = { query, key, value, pastKey, pastValue, lengths, total, bias };
    const [mixed, presentKey, presentValue] = groupQueryAttention(
      { ...inputs, ...(plan && rope(plan, config, shared, headSize)), ...cacheScales(shared, layer) },
      { heads, keyValueHeads, window, scale, softcap, present: sizes.total, cacheBits: shared.cache?.bits },
    );
    shared.present(layer, presentKey, presentValue);
    return mixed;
  };
}

/** Of the layer's integers: float32 [1, keyValueHeads, 1, headSize]. */
function cacheScales({ graph, cache }: Shared, layer: number) {
  if (!cache) return {};
  const { key, value } = cache.scales[layer]!;
  return {
    keyScale: graph.constant(key, `cache.${layer}.key_scale`),
    valueScale: graph.constant(value, `cache.${layer}.value_scale`),
  };
}

/** Before the work, too. @throws LapidaryError where a layer's attention cannot keep its cache as integers */
export function checkFused(config: Configuration): void {
  const plain = config.layers.findIndex(({ heads }, layer) => heads > 0 && !isFused(config, layer));
  if (plain === -1) return;
  throw new LapidaryError({
    what: 'this attention cannot hold its cache in integers',
    where: `layer ${plain}`,
    expected: `rotary positions, and heads of a multiple of ${fusedHeadSize}`,
    found: config.layers.some(({ rope }) => rope)
      ? `heads of ${config.layers[plain].headSize}`
      : 'no rotary positions',
    fix: 'leave the cache in floats',
  });
}

function plainCachedAttention(config: Configuration, shared: Shared): Attention {
  const { graph, once, mask } = shared;
  return plainAttention(config, {
    first: sizeOf(graph, sizes.past),
    rope: (plan, headSize) => rope(plan, config, shared, headSize),
    alibi: (plan, keyValueHeads) =>
      once(`alibi ${JSON.stringify([plan, keyValueHeads])}`, () =>
        alibi(plan, keyValueHeads, config, shared),
      ),
    mask: (window) => once(`mask ${window}`, () => additiveMask(graph, mask, window)),
    remember(newKeys, newValues, layer) {
      const { key, value } = shared.past(layer);
      const [keys, values] = [concat([key, newKeys], 2), concat([value, newValues], 2)];
      shared.present(layer, keys, values);
      return [keys, values];
    },
  });
}

/** [batch, 1, time, total]: 0 for tokens, far below any score for padding. */
function paddingBias({ graph, mask, dtype }: Shared): Value {
  const token = unsqueeze(cast(mask, 'bool'), [1, 2]);
  const row = where(token, scalar(graph, 0, dtype), scalar(graph, unseen, dtype));
  return expand(row, [sizes.batch, 1, sizes.time, sizes.total]);
}

/**
 * Positions whose cosines and sines stand in the file, which is 33 MB in float32 for heads of 64; of a longer context
 * they are computed at each run, for the positions that there are.
 */
export const mostTabled = 2 ** 17;

/** Whether cosines and sines are computed at each run: of long contexts, and where they hang on the sequence's length. */
export const isComputed = ({ scaling }: RopePlan, context: number): boolean =>
  context > mostTabled || (scaling?.type === 'longrope' && context > scaling.originalContext);

/** Cosines and sines for every position of the context: [positions, pairs that are rotated]. */
function rope(
  plan: RopePlan,
  { context }: Configuration,
  { graph, once, dtype }: Shared,
  headSize: number,
): { cos: Value; sin: Value } {
  return once(`rope ${JSON.stringify([plan, headSize])}`, () => {
    if (isComputed(plan, context)) {
      const { frequencies, factor } = runFrequencies(graph, plan, context, headSize);
      const angles = mul(cast(unsqueeze(range(graph, sizes.total), [1]), 'float32'), frequencies);
      const scaled = (x: Value) => cast(factor === 1 ? x : scale(x, factor), dtype);
      return { cos: scaled(cosine(angles)), sin: scaled(sine(angles)) };
    }
    const { cos, sin } = rotaryTables(plan, headSize, context);
    const constant = (table: Stored, name: string) => graph.constant(retyped(table, dtype), name);
    return { cos: constant(cos, 'cos'), sin: constant(sin, 'sin') };
  });
}

/** Frequencies [1, pairs] for a sequence of the length at hand. */
function runFrequencies(graph: Graph, plan: RopePlan, context: number, headSize: number) {
  const at = (positions: number) => {
    const { radians, factor } = frequenciesOf(plan, headSize, positions);
    const values = stored('float32', [1, radians.length], Float32Array.from(radians));
    return { frequencies: graph.constant(values, 'inverse_frequencies'), factor };
  };
  const { scaling } = plan;
  if (scaling?.type !== 'longrope' || context <= scaling.originalContext) return at(context);
  const [short, long] = [at(scaling.originalContext), at(context)];
  const isLong = greater(sizeOf(graph, sizes.total), scalar(graph, scaling.originalContext, 'int64'));
  return { frequencies: where(isLong, long.frequencies, short.frequencies), factor: long.factor };
}

/**
 * [batch, 1, 1, time, total]: 0 where a token sees another, far below any score elsewhere. Padding shifts positions
 * of rows and columns alike, so that distances stay what they are.
 */
function additiveMask(graph: Graph, mask: Value, window: number | undefined): Value {
  const column = unsqueeze(range(graph, sizes.total), [0]);
  const row = unsqueeze(add(range(graph, sizes.time), sizeOf(graph, sizes.past)), [1]);
  const token = unsqueeze(cast(mask, 'bool'), [1, 2, 3]);
  return where(and(sees(row, column, window), token), scalar(graph, 0), scalar(graph, unseen));
}

/**
 * By the positions of keys: [batch, keyValueHeads, group, 1, total]. In float16 less what it is for the query's own, which
 * softmax does not see: so near keys, which count, are told apart far from the first token.
 */
function alibi(
  plan: AlibiPlan,
  keyValueHeads: number,
  { context }: Configuration,
  { graph, mask, dtype }: Shared,
): Value {
  const table = graph.constant(alibiTable(plan, context), 'alibi');
  const at = (positions: Value, axis: number) =>
    unsqueeze(
      transpose(
        reshape(transpose(gather(table, positions, 1), [1, 2, 0]), [
          sizes.batch,
          positions.shape[1],
          keyValueHeads,
          plan.slopes.length / keyValueHeads,
        ]),
        [0, 2, 3, 1],
      ),
      [axis],
    );
  const keys = at(allPositions(graph, mask), 3);
  return dtype === 'float16' ? sub(keys, at(positionsOf(graph, mask), 4)) : keys;
}

/** Tokens are counted from 0, whatever padding stands before them. */
const allPositions = (graph: Graph, mask: Value): Value =>
  max(sub(cumSum(mask, 1), scalar(graph, 1, 'int64')), scalar(graph, 0, 'int64'));

const positionsOf = (graph: Graph, mask: Value): Value =>
  slice(allPositions(graph, mask), 1, sizeOf(graph, sizes.past), toEnd, sizes.time);
