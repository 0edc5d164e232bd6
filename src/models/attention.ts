/**
 * Attention over a whole sequence in primitive operators, so that it can be differentiated and runs anywhere.
 * Exports have their own, with caches and fused operators.
 */

import type { Dim, Graph, Value } from '../graph/graph.ts';
import {
  add,
  and,
  attend,
  cast,
  floats,
  fusedMatmul,
  ints,
  less,
  lessOrEqual,
  range,
  reshape,
  rotary,
  rotaryInPart,
  scalar,
  sizeOf,
  slice,
  softcap,
  sub,
  transpose,
  unsqueeze,
  where,
} from '../graph/ops.ts';
import { alibiTable } from './alibi.ts';
import type { AlibiPlan, Configuration, RopePlan } from './model.ts';
import { rotatedSize, rotaryTables } from './rope.ts';
import type { Attention } from './scope.ts';

/** What attention takes besides q, k and v; whoever builds the graph says whether they are inputs or constants. */
export interface AttentionTables {
  /** Cosines and sines [positions >= time, pairs that are rotated]; asked for where the layer has a rope. */
  rope(plan: RopePlan, headSize: number): { readonly cos: Value; readonly sin: Value };
  /**
   * Added to scores: [time, total] or [batch, 1, 1, time, total], 0 where row sees column, else a number that softmax
   * makes 0.
   */
  mask(window: number | undefined): Value;
  /**
   * Added to scores, too, of layers with linear biases: float32 [batch or 1, keyValueHeads, heads / keyValueHeads,
   * time or 1, total].
   */
  alibi(plan: AlibiPlan, keyValueHeads: number): Value;
  /** Position of the first token, int64 [1]; 0 where it is not given. */
  readonly first?: Value;
  /** Keys and values [batch, keyValueHeads, time, headSize] behind those of a cache, where there is one. */
  remember?(keys: Value, values: Value, layer: number): readonly [keys: Value, values: Value];
}

/**
 * softmax(q k^T scale + mask) v (Vaswani et al. 2017) with grouped heads (Ainslie et al. 2023): the queries
 * of a group stand below each other, so that keys and values are not repeated and each product is one large one.
 */
export function plainAttention(config: Configuration, tables: AttentionTables): Attention {
  return (q, k, v, layer) => {
    const plan = config.layers[layer];
    const { heads, keyValueHeads, headSize, window, rope, alibi, scale = 1 / Math.sqrt(headSize) } = plan;
    const group = heads / keyValueHeads;
    const [batch, time] = q.shape;
    const rotated = (x: Value, count: number) => {
      if (!rope) return x;
      const { cos, sin } = tables.rope(rope, headSize);
      const by = [tables.first ?? ints(x.graph, [0]), cast(cos, x.dtype), cast(sin, x.dtype)] as const;
      return rotatedSize(rope, headSize) < headSize ? rotaryInPart(x, by, count) : rotary(x, ...by);
    };
    const newKeys = splitHeads(rotated(k, keyValueHeads), keyValueHeads, 1, headSize);
    const newValues = splitHeads(v, keyValueHeads, 1, headSize);
    const [keys, values] = tables.remember?.(newKeys, newValues, layer) ?? [newKeys, newValues];
    const queries = splitHeads(rotated(q, heads), keyValueHeads, group, headSize);
    const scores = fusedMatmul(queries, keys, { transB: true, alpha: scale });
    const capped = plan.softcap === undefined ? scores : softcap(scores, plan.softcap);
    const perHead = reshape(capped, [batch, keyValueHeads, group, time, -1]);
    const biased = alibi ? add(perHead, cast(tables.alibi(alibi, keyValueHeads), q.dtype)) : perHead;
    const masked = add(biased, cast(tables.mask(window), q.dtype));
    const mixed = attend(reshape(masked, scores.shape), values);
    return joinHeads(mixed, batch, time, group, headSize);
  };
}

/** [batch, time, kv * group * size] to [batch, kv, group * time, size]. */
function splitHeads(x: Value, keyValueHeads: number, group: number, headSize: number): Value {
  const [batch, time] = x.shape;
  if (group === 1) return transpose(reshape(x, [batch, time, keyValueHeads, headSize]), [0, 2, 1, 3]);
  const split = transpose(reshape(x, [batch, time, keyValueHeads, group, headSize]), [0, 2, 3, 1, 4]);
  return reshape(split, [batch, keyValueHeads, -1, headSize]);
}

/** [batch, kv, group * time, size] to [batch, time, kv * group * size]. */
function joinHeads(x: Value, batch: Dim, time: Dim, group: number, headSize: number): Value {
  const keyValueHeads = x.shape[1] as number;
  const width = keyValueHeads * group * headSize;
  if (group === 1) return reshape(transpose(x, [0, 2, 1, 3]), [batch, time, width]);
  const split = reshape(x, [batch, keyValueHeads, group, time, headSize]);
  return reshape(transpose(split, [0, 3, 1, 2, 4]), [batch, time, width]);
}

/**
 * Tables made inside the graph: constants where the length is a number, else computed from it at each run.
 * @param positions the longest sequence that the graph will see
 */
export function tablesIn(graph: Graph, time: Dim, positions: number): AttentionTables {
  const ropes = new Map<string, { cos: Value; sin: Value }>();
  const masks = new Map<number | undefined, Value>();
  const biases = new Map<string, Value>();
  const sizeOfTime = () => (typeof time === 'number' ? time : sizeOf(graph, time));
  return {
    rope: (plan, headSize) =>
      remembered(ropes, JSON.stringify([plan, headSize]), () => {
        const { cos, sin } = rotaryTables(plan, headSize, positions);
        return { cos: graph.constant(cos, 'cos'), sin: graph.constant(sin, 'sin') };
      }),
    alibi: (plan, keyValueHeads) =>
      remembered(biases, JSON.stringify([plan, keyValueHeads]), () => {
        const table = graph.constant(alibiTable(plan, positions), 'alibi');
        const seen = slice(table, 1, 0, sizeOfTime(), time);
        return reshape(seen, [1, keyValueHeads, plan.slopes.length / keyValueHeads, 1, time]);
      }),
    mask: (window) =>
      remembered(masks, window, () => {
        if (typeof time === 'string') return computedMask(graph, time, window);
        return floats(graph, maskValues(time, window), [time, time]);
      }),
  };
}

function remembered<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const value = map.get(key) ?? make();
  map.set(key, value);
  return value;
}

function maskValues(time: number, window = time): Float32Array {
  const values = new Float32Array(time * time);
  for (let row = 0; row < time; row++) {
    values.fill(unseen, row * time, row * time + Math.max(0, row - window + 1));
    values.fill(unseen, row * time + row + 1, (row + 1) * time);
  }
  return values;
}

function computedMask(graph: Graph, time: string, window: number | undefined): Value {
  const position = range(graph, time);
  const seen = sees(unsqueeze(position, [1]), unsqueeze(position, [0]), window);
  return where(seen, scalar(graph, 0), scalar(graph, unseen));
}

/** Where the token at position `row` sees the one at `column`: bool, the two broadcast. */
export function sees(row: Value, column: Value, window: number | undefined): Value {
  const before = lessOrEqual(column, row);
  if (window === undefined) return before;
  return and(before, less(sub(row, column), scalar(row.graph, window, 'int64')));
}

/** Added to the scores of tokens that are not seen: far below any score, and yet in float16's range. */
export const unseen = -6e4;
