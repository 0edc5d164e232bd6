/**
 * The steps of a recipe in the order they are done. Steps that stand together and are of one family are one part: within it
 * rewrites of the whole model come first, then one walk over its blocks, in which the last step that means a matrix
 * decides, then training of the whole model, wherever they stand. Parts follow each other as they stand, each on the
 * model as those before have left it, with statistics collected anew. What changes the structure is a part by itself.
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { ModelRewrite, ModelTraining } from '../contract/method.ts';
import { familyOf } from '../methods/index.ts';
import type { Step } from './steps.ts';
import { compresses, isCompression } from './steps.ts';

interface Of<Method> {
  readonly method: Method;
  readonly options: Step['options'];
}

export type Stage =
  | (Of<ModelRewrite> & {
      readonly kind: 'rewrite';
      /** Of the next walk. */
      readonly next: readonly Step[];
    })
  | { readonly kind: 'walk'; readonly steps: readonly Step[] }
  | (Of<ModelTraining> & { readonly kind: 'training' });

/** What is done to a model, in order. */
export function stagesOf(steps: readonly Step[]): readonly Stage[] {
  const stages: Stage[] = [];
  const parts = partsOf(steps);
  for (const [index, part] of parts.entries()) {
    const inWalk = part.filter(isInWalk);
    const next = parts.slice(index).map((later) => later.filter(isInWalk));
    for (const { method, options } of part)
      if (method.shape === 'rewrite' && method.scope === 'model')
        stages.push({ kind: 'rewrite', method, options, next: next.find(({ length }) => length > 0) ?? [] });
    if (inWalk.length > 0) stages.push({ kind: 'walk', steps: inWalk });
    for (const { method, options } of part)
      if (method.shape === 'train' && method.scope === 'model')
        stages.push({ kind: 'training', method, options });
  }
  return stages;
}

const isInWalk = ({ method }: Step): boolean =>
  method.shape === 'linear' || method.scope === 'block' || method.scope === 'compressed block';

/** What becomes of a model by it is known when it has become so. */
export const isStructural = ({ method }: Step): boolean =>
  method.shape === 'rewrite' && method.scope === 'model' && method.changes === 'structure';

/** What trains compressed blocks and is of no family of the project's belongs to the part before it, whatever that is. */
const joinsAny = ({ method }: Step): boolean =>
  method.shape === 'train' && method.scope === 'compressed block' && !familyOf(method);

function partsOf(steps: readonly Step[]): readonly (readonly Step[])[] {
  const parts: Step[][] = [];
  let open: string | undefined;
  for (const step of steps) {
    const own = familyOf(step.method)?.name ?? step.method.name;
    const kin = isStructural(step) ? undefined : joinsAny(step) ? (open ?? own) : own;
    if (kin !== undefined && kin === open) parts.at(-1)!.push(step);
    else parts.push([step]);
    open = kin;
  }
  return parts;
}

/** @throws LapidaryError (usage) on steps in an order that makes no sense, saying which would */
export function checkOrder(steps: readonly Step[], where: string): void {
  const stages = stagesOf(steps);
  const refuse = (name: string, what: string, fix: string) => {
    throw new LapidaryError({ what: `${name} cannot stand there: ${what}`, where, fix }, ExitCode.usage);
  };
  let compressor: string | undefined;
  for (const [index, stage] of stages.entries()) {
    if (stage.kind === 'walk') {
      const found = stage.steps.find(isCompression);
      const training = stage.steps.find(({ method }) => method.shape === 'train' && !compresses(method));
      if (training && !found)
        refuse(
          training.method.name,
          'it trains matrices of blocks that are compressed, and no step beside it compresses any',
          'put it behind a compressor of its family',
        );
      compressor = found?.method.name ?? compressor;
    } else if (stage.kind === 'training' && index === 0) {
      refuse(
        stage.method.name,
        'it brings a model back to what the original predicts, and nothing before it changes the model',
        'put it behind the steps that change the model',
      );
    } else if (stage.kind === 'rewrite' && changesValues(stage.method) && compressor !== undefined) {
      refuse(
        stage.method.name,
        `it changes the values of all weights, and what ${compressor} made of them would be lost`,
        `put it before ${compressor}`,
      );
    }
  }
}

const changesValues = ({ changes, keepsEncodings }: ModelRewrite): boolean =>
  changes === 'weights' && !keepsEncodings;
