/**
 * What a model is built of, where compression changed that: how many layers, how wide, how many heads. Of each layer its
 * own, for they may differ.
 */

import type { Configuration } from '../models/model.ts';
import type { ReportStructure } from './schema.ts';

export function structureOf({ layers, hidden, vocabulary }: Configuration): ReportStructure {
  const experts = layers.map((layer) => layer.experts?.count ?? 0);
  return {
    layers: layers.length,
    hidden,
    vocabulary,
    ...(layers.some(({ convolution }) => convolution)
      ? { convolutions: layers.map(({ convolution }) => convolution?.width ?? 0) }
      : {}),
    heads: layers.map(({ heads }) => heads),
    keyValueHeads: layers.map(({ keyValueHeads }) => keyValueHeads),
    headSize: layers.map(({ headSize }) => headSize),
    intermediate: layers.map(({ intermediate }) => intermediate),
    ...(experts.some((count) => count > 0) ? { experts } : {}),
  };
}

/** Before and after; undefined where both are built alike. */
export function structureChange(
  original: Configuration,
  compressed: Configuration,
): { readonly before: ReportStructure; readonly after: ReportStructure } | undefined {
  const [before, after] = [structureOf(original), structureOf(compressed)];
  return JSON.stringify(before) === JSON.stringify(after) ? undefined : { before, after };
}
