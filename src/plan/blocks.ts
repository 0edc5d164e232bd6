/** What blocks take while they run. */

import { total } from '../base/total.ts';
import { peakBytes } from '../graph/memory.ts';
import { blockGraph } from '../models/build.ts';
import type { Model } from '../models/model.ts';
import type { Facts } from './facts.ts';

/** Blocks of one plan: the engine keeps memory for each graph that it ran. */
export interface BlockKind {
  /** Bytes of values that are needed at once. */
  readonly values: number;
  /** Bytes of the Gram matrices of its inputs. */
  readonly squares: number;
  /** Graphs that they are when they are compressed: at most one for each choice of encodings. */
  readonly variants: number;
}

/** @param sizes of a batch: batch and time */
export function blockKinds({ model, matrices }: Facts, sizes: Readonly<Record<string, number>>): BlockKind[] {
  const kinds = new Map<string, { readonly layer: number; readonly variants: Set<string> }>();
  model.config.layers.forEach((plan, layer) => {
    const key = JSON.stringify(plan);
    const kind = kinds.get(key) ?? { layer, variants: new Set() };
    kinds.set(key, kind);
    const assigned = matrices
      .filter((matrix) => matrix.layer === layer)
      .map((matrix) => matrix.assigned?.options);
    if (assigned.some((options) => options !== undefined)) kind.variants.add(JSON.stringify(assigned));
  });
  return [...kinds.values()].map(({ layer, variants }) => ({
    ...blockOf(model, layer, sizes),
    variants: variants.size,
  }));
}

function blockOf(model: Model, layer: number, sizes: Readonly<Record<string, number>>) {
  const { graph, scope, hidden } = blockGraph(model, layer, 1);
  graph.output('hidden', hidden);
  const inputs = new Set([...scope.linears.values()].map(({ input }) => input));
  const squares = total([...inputs].map(({ shape }) => 4 * (shape.at(-1) as number) ** 2));
  return { values: peakBytes(graph, sizes), squares };
}
