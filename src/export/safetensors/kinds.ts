/** What the layouts of quantized checkpoints have in common: which settings most weights have, and what is left dense. */

import type { Model } from '../../models/model.ts';
import type { IntegerSizes } from './integers.ts';
import { integerSizes } from './integers.ts';

/**
 * Matrices that are grouped integers, by name.
 * @param sizesOf of those that a format holds, where that is more
 */
export function quantizedSizes({ matrices }: Model, sizesOf = integerSizes): Map<string, IntegerSizes> {
  const found = new Map<string, IntegerSizes>();
  for (const [name, encoding] of matrices) {
    const sizes = sizesOf(encoding);
    if (sizes) found.set(name, sizes);
  }
  return found;
}

/** The value that most weights have; undefined of no matrices. */
export function mostCommon<T>(
  matrices: Iterable<IntegerSizes>,
  valueOf: (sizes: IntegerSizes) => T,
): T | undefined {
  const weights = new Map<string, { readonly value: T; readonly count: number }>();
  for (const sizes of matrices) {
    const value = valueOf(sizes);
    const count = weights.get(JSON.stringify(value))?.count ?? 0;
    weights.set(JSON.stringify(value), { value, count: count + sizes.rows * sizes.columns });
  }
  return [...weights.values()].sort((a, b) => b.count - a.count)[0]?.value;
}

/** Matrices inside of blocks that are not grouped integers. */
export function denseInBlocks({ architecture, config, matrices }: Model): string[] {
  const prefixes = config.layers.map((_, layer) => `${architecture.layerName(layer)}.`);
  return [...matrices].flatMap(([name, encoding]) =>
    !integerSizes(encoding) && prefixes.some((prefix) => name.startsWith(prefix)) ? [name] : [],
  );
}
