/** Finds out before the work which matrices would not fit a format. */

import { LapidaryError } from '../base/errors.ts';
import { openSampler } from '../calibrate/noise.ts';
import type { Target } from '../calibrate/targets.ts';
import { keptOf, targetsOf } from '../calibrate/targets.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { assignment } from '../run/assignment.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Format } from './format.ts';

/** What a format says of matrices as a recipe would make them. */
export interface Fitting {
  /**
   * Throws a LapidaryError on what the format does not hold; of the encoding only what does not depend on the number of
   * its rows, or on its columns but for their remainder in 256, is as it will be.
   */
  readonly fits: (encoding: Encoding, target: Target) => void;
  /** The same of matrices whose values are kept, as they will be stored. */
  readonly holds: Format['holds'];
  /** Whether engines multiply at once what reads the same norm, and so take such matrices alike or not at all. */
  readonly fused?: boolean | undefined;
}

/** @throws LapidaryError on the first matrix that does not fit, naming it, its method, and all that could stay in floats */
export async function checkSteps(
  recipe: Recipe,
  original: OpenedCheckpoint,
  fitting: Fitting,
): Promise<void> {
  const [first, ...more] = await misfits(recipe, original, fitting);
  if (!first) return;
  const { problem, name, method } = first;
  const all = targetsOf(original.model).map((target) => target.name);
  const names = together(
    [first, ...more].map((each) => each.name),
    original.model,
    fitting,
  );
  // Where nothing fits, the method is at fault, not the matrices.
  const kept =
    names.length < all.length
      ? `leave in floats what does not fit: --also "${expressionOf(names, all)} keep"`
      : undefined;
  throw new LapidaryError({
    ...problem,
    where: `${name}, compressed by ${method}`,
    fix: [problem.fix, kept].filter((part) => part !== undefined).join(', or ') || undefined,
  });
}

/** Names of the matrices that a format cannot hold as a recipe makes them, and of those that go with them. */
export async function misfitting(
  recipe: Recipe,
  original: OpenedCheckpoint,
  fitting: Fitting,
): Promise<readonly string[]> {
  const found = await misfits(recipe, original, fitting);
  return together(
    found.map(({ name }) => name),
    original.model,
    fitting,
  );
}

interface Misfit {
  readonly name: string;
  readonly method: string;
  readonly problem: LapidaryError['problem'];
}

/** Rows of noise, compressed as each kind of matrix would be. */
async function misfits(
  recipe: Recipe,
  { model }: OpenedCheckpoint,
  { fits, holds }: Fitting,
): Promise<Misfit[]> {
  const assign = assignment(recipe, model);
  const sampleOf = openSampler();
  const found: Misfit[] = [];
  for (const target of targetsOf(model)) {
    const assigned = assign(target);
    if (!assigned) continue;
    const kept = keptOf(assigned, model.matrices.get(target.name)!);
    const encoding = kept ?? (await sampleOf(assigned, target.shape[1]));
    try {
      if (kept) holds(kept, target, recipe);
      else fits(encoding, target);
    } catch (error) {
      if (!(error instanceof LapidaryError)) throw error;
      found.push({ name: target.name, method: assigned.method.name, problem: error.problem });
    }
  }
  return found;
}

/** With the others of each fused product. */
function together(names: readonly string[], { architecture, config }: Model, { fused }: Fitting): string[] {
  if (!fused) return [...names];
  const found = new Set(names);
  for (const layer of config.layers.keys()) {
    for (const { readers } of architecture.structure(config, layer).norms)
      if (readers.some(({ matrix }) => found.has(matrix)))
        for (const { matrix } of readers) found.add(matrix);
  }
  return [...found];
}

/**
 * Matrices as a recipe's target names them: by the end of their names ("down_proj") where all that end so are meant,
 * else whole; several in braces.
 */
export function expressionOf(names: readonly string[], all: readonly string[]): string {
  const meant = new Set(names);
  const shortest = (name: string) => {
    const parts = name.split('.');
    for (let from = parts.length - 1; from > 0; from--) {
      const end = parts.slice(from).join('.');
      if (all.every((other) => meant.has(other) || !`.${other}`.endsWith(`.${end}`))) return end;
    }
    return name;
  };
  const ends = [...new Set(names.map(shortest))];
  return ends.length === 1 ? ends[0]! : `{${ends.join(',')}}`;
}
