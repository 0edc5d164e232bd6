/**
 * Cuts a block into slices in front of its linear layers. Where layers are compressed one after the other, each is fed by the
 * compressed ones before it, and no slice computes again what an earlier one has computed.
 */

import type { Graph, Node, Value } from '../graph/graph.ts';
import type { NamedValue } from '../graph/slice.ts';
import { sliced } from '../graph/slice.ts';
import type { RecordingScope } from './scope.ts';

export interface Cut {
  /** Names of linear layers, as they run; those of one stage are not fed by each other. */
  readonly stages: readonly (readonly string[])[];
  /** Where the slice begins: behind what this stage is fed, at its products; -1 is the block's input. */
  readonly from: number;
  /** Where it ends: at what this stage is fed; behind the last stage, at the block's end. */
  readonly at: number;
}

export interface Slice {
  readonly graph: Graph;
  /** What the next slice is fed; nothing for the last. */
  readonly kept: readonly Kept[];
}

/** An output of a slice, or what it was fed itself where that passes through. */
export interface Kept {
  readonly name: string;
  /** The name that it was fed by. */
  readonly passed?: string | undefined;
  /** Of the numbers for a token, where it is of the input's tokens. */
  readonly shape?: readonly number[] | undefined;
}

/** The whole block's graph; its outputs are those of an extension, which see layers of this stage alone. */
export interface Whole {
  readonly graph: Graph;
  readonly scope: RecordingScope;
  readonly input: Value;
  readonly end: NamedValue;
}

/**
 * Values that cross a cut are known by their order: weights may be encoded otherwise in the graph of another slice, but
 * what crosses has the same users, in the same order.
 */
export function sliceAt(whole: Whole, { stages, from, at }: Cut): Slice {
  const { graph, input, end } = whole;
  const sliceOf = slicesOfNodes(whole, stages);
  const given = from < 0 ? [] : crossing(whole, sliceOf, from);
  const kept = at < stages.length ? crossing(whole, sliceOf, at) : [];
  const fed = new Map([[input, input.name], ...given.map(({ name, value }) => [value, name] as const)]);
  const computed = at < stages.length ? kept.filter(({ value }) => !fed.has(value)) : [end];
  return {
    graph: sliced(graph, given, [...graph.outputs, ...computed]),
    kept: kept.map(({ name, value }) => ({ name, passed: fed.get(value), shape: shapeOf(value, input) })),
  };
}

/** Masks, for one, are not of tokens. */
function shapeOf({ shape, dtype }: Value, input: Value): readonly number[] | undefined {
  const [batch, time, ...rest] = shape;
  const ofTokens = batch === input.shape[0] && time === input.shape[1] && dtype === 'float32';
  return ofTokens ? (rest as number[]) : undefined;
}

/** By node that depends on the block's input: the slice that computes it. */
function slicesOfNodes(
  { graph: { nodes }, input, scope: { linears } }: Whole,
  stages: readonly (readonly string[])[],
): ReadonlyMap<Node, number> {
  const least = new Map(
    stages.flatMap((names, stage) =>
      names.flatMap((name) => linears.get(name)!.nodes.map((node) => [node, stage + 1] as const)),
    ),
  );
  const slices = new Map<Value, number>([[input, 0]]);
  const found = new Map<Node, number>();
  for (const node of nodes) {
    const own = node.inputs.flatMap((input) => (input && slices.has(input) ? [slices.get(input)!] : []));
    // What depends on weights alone is computed wherever it is needed.
    if (own.length === 0) continue;
    const slice = Math.max(...own, least.get(node) ?? 0);
    found.set(node, slice);
    for (const output of node.outputs) slices.set(output, slice);
  }
  return found;
}

/**
 * What slices up to `at` compute, or the block is fed, that later ones use; but for what the others make without a linear
 * layer, norms say, which is sooner computed again than kept.
 */
function crossing(
  { graph, input, scope }: Whole,
  sliceOf: ReadonlyMap<Node, number>,
  at: number,
): readonly NamedValue[] {
  const early = new Set([input]);
  for (const [node, slice] of sliceOf) if (slice <= at) for (const output of node.outputs) early.add(output);
  const late = graph.nodes.filter((node) => (sliceOf.get(node) ?? 0) > at);
  const used = late.flatMap(({ inputs }) =>
    inputs.flatMap((each) => (each && early.has(each) ? [each] : [])),
  );
  const distinct = [...new Set(used)];
  const makers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node])));
  const products = new Set([...scope.linears.values()].flatMap(({ nodes }) => nodes));
  const kept = new Set(distinct);
  /** Whether what is kept makes it. */
  const follows = (value: Value): boolean => {
    const maker = makers.get(value);
    if (maker === undefined) return value !== input;
    return !products.has(maker) && maker.inputs.every((each) => !each || kept.has(each) || follows(each));
  };
  for (const value of distinct) {
    kept.delete(value);
    if (!follows(value)) kept.add(value);
  }
  return [...kept].map((value, index) => ({ name: `kept.${at}.${index}`, value }));
}
