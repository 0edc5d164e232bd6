/** What a run would do to which matrix, and the bytes of the result: known from shapes, before any weight is read. */

import { total } from '../base/total.ts';
import { targetsOf } from '../calibrate/targets.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { labelIn } from '../formats/format.ts';
import { formats } from '../formats/index.ts';
import { costOf } from '../measure/measure.ts';
import { parameters } from '../models/size.ts';
import { plainRecipe } from '../recipe/recipe.ts';
import { isStructural } from '../recipe/stages.ts';
import { stepText } from '../recipe/step-text.ts';
import { kindNames, withinLayer } from '../report/data.ts';
import type { PlanInput } from './facts.ts';
import { outlineOf } from './outline.ts';
import type { Plan } from './plan.ts';

/** A matrix as it is and as it will be; bytes after are those in the file. */
export interface ForeseenMatrix {
  readonly name: string;
  /** What it is in its layer ("q_proj") or outside ("embedding", "head"). */
  readonly kind: string;
  readonly layer?: number | undefined;
  readonly shape: readonly number[];
  /** Undefined: it stays as it is. */
  readonly method?: string | undefined;
  readonly before: { readonly label: string; readonly bytes: number };
  readonly after: { readonly label: string; readonly bytes: number };
}

export interface Foreseen {
  readonly bytes: number;
  readonly bitsPerWeight: number;
}

export interface DryRun extends Plan {
  /** The recipe as it is for this model, complete. */
  readonly recipe: Readonly<Record<string, unknown>>;
  /** Its steps as `--step` has them. */
  readonly steps: readonly string[];
  /** Why these, where they were recommended. */
  readonly reason?: string | undefined;
  /** "ONNX for transformers.js" */
  readonly target: string;
  readonly before: Foreseen;
  /** Of the files that an engine loads the weights from. */
  readonly after: Foreseen;
  /** Whether the bytes afterwards hang on values, or on what is measured when the file is written. */
  readonly about: boolean;
  readonly matrices: readonly ForeseenMatrix[];
  /** Sentences that a reader must know: what the format cannot hold, and what stands in its place. */
  readonly notes: readonly string[];
}

/** @param plan of memory and disk */
export async function dryRun(
  { original, recipe }: PlanInput,
  plan: Plan,
  notes: readonly string[],
): Promise<DryRun> {
  const { model } = original;
  const format = formats[recipe.export.format];
  const { model: outline, assigned, about } = await outlineOf(model, recipe, format.stored);
  const size = format.size(outline, recipe, original);
  const targets = targetsOf(model);
  const kindOf = kindNames(targets.map(({ name, layer }) => withinLayer(model, name, layer)));
  const matrices = targets.map(({ name, place, layer, shape }): ForeseenMatrix => {
    const [before, after] = [model.matrices.get(name)!, outline.matrices.get(name)!];
    return {
      name,
      kind: place === 'block' ? kindOf(withinLayer(model, name, layer)) : place,
      ...(layer === undefined ? {} : { layer }),
      shape,
      method: assigned.get(name)?.method.name,
      before: { label: before.label, bytes: encodedBytes(before) },
      after: {
        label: labelIn(format, after, recipe.export),
        bytes: size.matrices.get(name) ?? encodedBytes(after),
      },
    };
  });
  const { bytes, bitsPerWeight } = costOf(original);
  const vectors = total([...model.vectors.values()].map(({ byteLength }) => byteLength));
  const weights = vectors + total(matrices.map(({ after }) => after.bytes));
  return {
    recipe: plainRecipe(recipe),
    steps: recipe.steps.map(stepText),
    reason: recipe.reason,
    target: format.label,
    before: { bytes, bitsPerWeight },
    after: { bytes: size.bytes, bitsPerWeight: (8 * weights) / parameters(model) },
    about: about.size > 0 || size.about === true || recipe.steps.some(isStructural),
    matrices,
    notes,
    ...plan,
  };
}
