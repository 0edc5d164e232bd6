/** Tells before the work where rows are too short for the block type that was asked for, and which type they get instead. */

import type { Target } from '../calibrate/targets.ts';
import { targetsOf } from '../calibrate/targets.ts';
import { blockTypeFor, blockTypeNamed } from '../encodings/blocks/index.ts';
import { ggufFileTypes, typeInMix } from '../models/gguf-mixes.ts';
import type { Model } from '../models/model.ts';
import { assignment } from '../run/assignment.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { isCompression } from '../recipe/steps.ts';

/** Best of those measured where rows are no multiples of 256 (docs/benchmarks.md, rows of 576). */
const bestAnyway = 'Q4_K_M';
const measured = 'SmolLM2-135M, rows of 576: KL 0.042; Q3_K_M 0.105, Q4_0 0.186, Q2_K 0.244';

/** @returns one sentence where some matrices get another type than was asked for, else nothing */
export function fallbackLines(recipe: Recipe, model: Model): readonly string[] {
  const assign = assignment(recipe, model);
  const asked = targetsOf(model).flatMap((target) => {
    const type = (assign(target)?.options as { readonly type?: unknown } | undefined)?.type;
    return typeof type === 'string' ? [{ ...target, type: ggufFileTypes[type]?.type ?? type }] : [];
  });
  const counts = new Map<string, number>();
  let block = 0;
  for (const { type, shape } of asked) {
    const stored = blockTypeFor(type, shape[1])?.name ?? 'F16';
    if (stored === type) continue;
    counts.set(`${type} as ${stored}`, (counts.get(`${type} as ${stored}`) ?? 0) + 1);
    block = Math.max(block, blockTypeNamed(type)?.size ?? 0);
  }
  if (counts.size === 0) return [];
  const changed = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const [bits, wanted] = [bitsOf(asked, true), bitsOf(asked, false)];
  return [
    `${changed} of ${asked.length} matrices have rows that are no multiple of ${block} weights, and are stored in other types: ` +
      `${[...counts].map(([what, count]) => `${what} (${count})`).join(', ')}. ` +
      `That makes ${bits.toFixed(2)} bits a weight, not ${wanted.toFixed(2)}.${betterType(recipe, model, { bits, wanted })}`,
  ];
}

type Asked = Pick<Target, 'shape'> & { readonly type: string };

/** Bits a weight. @param fitted as rows are; else as if all were whole blocks */
function bitsOf(matrices: readonly Asked[], fitted: boolean): number {
  let [bits, weights] = [0, 0];
  for (const { type, shape } of matrices) {
    const count = shape[0] * shape[1];
    const block = fitted ? blockTypeFor(type, shape[1]) : blockTypeNamed(type);
    bits += count * (block ? (8 * block.bytes) / block.size : 16);
    weights += count;
  }
  return bits / weights;
}

/** Narrow types fall back to ones that are hardly smaller than a better mix. */
function betterType(
  { steps }: Recipe,
  model: Model,
  { bits, wanted }: { readonly bits: number; readonly wanted: number },
): string {
  const type = steps.find(isCompression)?.options.type;
  if (typeof type !== 'string' || !(type in ggufFileTypes) || type === bestAnyway) return '';
  const mix = targetsOf(model).map(({ name, shape }) => ({
    shape,
    type: typeInMix(bestAnyway, name, model.config, true),
  }));
  return wanted < bitsOf(mix, false)
    ? ` Best at such widths: --type ${bestAnyway}, ${bitsOf(mix, true).toFixed(2)} bits in place of ${bits.toFixed(2)} (${measured}).`
    : '';
}
