/**
 * What a compressor has encoded (codes, factors, whatever is not the values themselves) is not decoded by a step that comes
 * later: it would be lost without a word. So a later walk leaves such matrices to methods that keep what is stored
 * (`convert`), and rewrites say that they hand it on (`keepsEncodings`).
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { openSampler } from '../calibrate/noise.ts';
import { asksForSensitivity } from '../calibrate/select.ts';
import type { Assignment, Target } from '../calibrate/targets.ts';
import { keptOf, targetsOf } from '../calibrate/targets.ts';
import type { Rewrite } from '../contract/method.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Stage } from '../recipe/stages.ts';
import { stagesOf } from '../recipe/stages.ts';
import { isCompression } from '../recipe/steps.ts';
import { assignment } from './assignment.ts';

/** Matrices that an earlier walk of the recipe has encoded, with the method that did. */
export type Encoded = ReadonlyMap<string, string>;

/** Whether it holds something else than values, which others may change. */
export const isEncoded = ({ plain }: Pick<Encoding, 'plain'>): boolean => plain === undefined;

/**
 * Finds out before the work, on a few rows of noise, whether a step would decode what one before it has encoded. What
 * comes behind a change of the structure, or is for sensitive matrices, is known when it is there: `applyRecipe` asks
 * again.
 * @throws LapidaryError (usage) naming the step, a matrix and who encoded it
 */
export async function checkEncoded({ steps }: Pick<Recipe, 'steps'>, model: Model): Promise<void> {
  const stages = stagesOf(steps);
  const sampleOf = openSampler();
  const targets = targetsOf(model);
  const encoded = new Map<string, string>();
  for (const [index, stage] of stages.entries()) {
    if (stage.kind === 'rewrite') {
      checkRewrite(stage.method, encoded);
      if (stage.method.changes === 'structure') encoded.clear();
    }
    if (stage.kind !== 'walk') continue;
    const own = stage.steps.filter((step) => !isCompression(step) || !step.targets.some(asksForSensitivity));
    const assign = assignment({ steps: own }, model);
    checkWalk(stage, { assign, targets }, encoded);
    if (index === stages.length - 1) return;
    for (const target of targets) {
      const assigned = assign(target);
      if (!assigned || encoded.has(target.name)) continue;
      const after =
        keptOf(assigned, model.matrices.get(target.name)!) ?? (await sampleOf(assigned, target.shape[1]));
      if (isEncoded(after)) encoded.set(target.name, assigned.method.name);
    }
  }
}

/** @throws LapidaryError (usage) where a walk would decode one of these */
export function checkWalk(
  { steps }: Stage & { readonly kind: 'walk' },
  {
    assign,
    targets,
  }: {
    readonly assign: (target: Target) => Assignment | undefined;
    readonly targets: readonly Target[];
  },
  encoded: Encoded,
): void {
  const inBlock = targets.find(({ name, place }) => place === 'block' && encoded.has(name));
  for (const { method } of steps)
    if (inBlock && method.shape === 'rewrite') checkRewrite(method, encoded, inBlock.name);
  for (const target of targets) {
    const assigned = encoded.has(target.name) ? assign(target) : undefined;
    if (!assigned || (assigned.method.shape === 'linear' && assigned.method.convert)) continue;
    refuse(
      assigned.method.name,
      encoded,
      target.name,
      (by) => `put it before ${by}, or give it targets that ${by} leaves as they are`,
    );
  }
}

/** @throws LapidaryError (usage) where a rewrite does not say that encodings pass through it and there are some */
export function checkRewrite(
  { name, keepsEncodings }: Pick<Rewrite, 'name' | 'keepsEncodings'>,
  encoded: Encoded,
  first = [...encoded.keys()][0],
): void {
  if (first === undefined || keepsEncodings) return;
  refuse(name, encoded, first, (by) => `put it before ${by}`);
}

function refuse(name: string, encoded: Encoded, matrix: string, fixOf: (by: string) => string): never {
  const by = encoded.get(matrix)!;
  throw new LapidaryError(
    {
      what: `${name} cannot stand behind ${by}: it takes matrices as floats, and what ${by} has encoded would be lost`,
      where: matrix,
      fix: fixOf(by),
    },
    ExitCode.usage,
  );
}

/** @throws LapidaryError where a rewrite that says that it keeps encodings has decoded one */
export function checkHandedOn(rewrite: string, before: Model, after: Model): void {
  for (const [name, encoding] of before.matrices) {
    const now = after.matrices.get(name);
    const isDecoded = now && now !== encoding && isEncoded(encoding) && !isEncoded(now);
    if (isDecoded && ![...before.matrices.values()].includes(now))
      throw new LapidaryError({
        what: `${rewrite} says that it keeps encodings, and has decoded one`,
        where: name,
        expected: encoding.label,
        found: now.label,
        fix: 'leave keepsEncodings out of the method, or let it hand on the encodings of matrices',
      });
  }
}
