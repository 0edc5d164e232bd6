/**
 * Settles a recipe that keeps what is quantized already, for the model at hand: which matrices the format holds to the bit, what
 * happens to the others, and what to tell the user before the work.
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { checkFinite } from '../base/finite.ts';
import type { Target } from '../calibrate/targets.ts';
import { keptOf, targetsOf } from '../calibrate/targets.ts';
import { equalValues } from '../encodings/affine.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { methods } from '../methods/index.ts';
import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { assignment } from '../run/assignment.ts';
import { calibrationFile } from '../run/texts.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Step } from '../recipe/steps.ts';
import { inputOf, withSteps } from '../recipe/recipe.ts';
import { isCompression } from '../recipe/steps.ts';
import { fitted } from './fitted.ts';
import { formats } from './index.ts';

/** What is said before the work. */
export interface Say {
  readonly warn: (line: string) => void;
  readonly note: (line: string) => void;
}

/** A matrix that the format does not hold. */
interface Lost {
  readonly target: Target;
  readonly encoding: Encoding;
  readonly error: LapidaryError;
}

/**
 * The recipe, with steps of its own for matrices that are to be kept and cannot be, where the step that keeps them leaves
 * them to what is recommended.
 * @throws LapidaryError (usage) naming those that a strict step would keep
 */
export function settled(recipe: Recipe, original: OpenedCheckpoint, { warn, note }: Say): Recipe {
  const { model } = original;
  const narrow = targetsOf(model).filter(({ name }) => model.matrices.get(name)!.bits < 16);
  if (narrow.length === 0) return recipe;
  const { kept, lost } = sorted(recipe, original, narrow);
  const types = [...new Set(narrow.map(({ name }) => model.matrices.get(name)!.label))].join(', ');
  const subject = `${model.source} is already quantized (${types})`;
  if (kept.length === 0 && lost.length === 0) {
    warn(`${subject}: ${losing}${hint(recipe, original, narrow)}`);
    return recipe;
  }
  const rest = narrow.length - kept.length - lost.length;
  if (lost.length === 0) {
    const others = rest > 0 ? `; ${rest} others are not kept, as the recipe says` : '';
    note(`${subject}: ${kept.length} matrices are taken over as they are, without loss${others}.`);
    return recipe;
  }
  const { steps, reason } = anew(lost, recipe);
  const why = `${formats[recipe.export.format].label} does not hold ${kept.length === 0 ? 'its matrices' : namesOf(lost)} to the bit (${reasonOf(lost[0])})`;
  const own = recipe.steps.map(inputOf);
  if (kept.length > 0) {
    warn(
      `${subject}: ${kept.length} matrices are taken over without loss; ${why}, so they are compressed anew`,
    );
    return withSteps(recipe, [...own, ...steps]);
  }
  warn(`${subject}, and ${why}: ${losing}`);
  const others = own.filter((_, index) => !keeps(recipe.steps[index]));
  return withSteps({ ...recipe, reason }, [...steps, ...others]);
}

const keeps = (step: Step): boolean =>
  isCompression(step) && step.method.shape === 'linear' && step.method.convert !== undefined;

const losing =
  'what is made from it loses on top of that, and is compared with it, not with the original; start from the original weights where you can';

/** What is to be kept: what the format holds, and what it does not. @throws LapidaryError where that is strict */
function sorted(recipe: Recipe, { model, checkpoint }: OpenedCheckpoint, targets: readonly Target[]) {
  const assign = assignment(recipe, model);
  const format = formats[recipe.export.format];
  const kept: Target[] = [];
  const lost: Lost[] = [];
  let strict = false;
  for (const target of targets) {
    const assigned = assign(target);
    const encoding = model.matrices.get(target.name)!;
    try {
      const after = assigned && keptOf(assigned, encoding);
      if (!after || after.bits >= 16) continue;
      format.holds(after, target, recipe);
      kept.push(target);
    } catch (error) {
      if (!(error instanceof LapidaryError)) throw error;
      const key = `${target.name}.weight`;
      const tensor = checkpoint.tensors.get(key);
      if (tensor) checkFinite(key, tensor, model.source);
      lost.push({ target, encoding, error });
      strict ||= (assigned!.options as { readonly strict?: boolean }).strict !== false;
    }
  }
  if (strict) throw refused(lost, recipe);
  return { kept, lost };
}

function refused(lost: readonly Lost[], { export: { format } }: Recipe): LapidaryError {
  const { problem } = lost[0].error;
  return new LapidaryError(
    {
      what: `${formats[format].label} does not hold ${lost.length === 1 ? 'a matrix' : `${lost.length} matrices`} to the bit: ${problem.what}`,
      where: namesOf(lost),
      expected: problem.expected,
      found: problem.found,
      fix: `add --no-strict, and what is recommended compresses ${lost.length === 1 ? 'it' : 'them'}; leave it in floats (--form floats, or --also "NAMES keep form=floats"), or write another format: onnx holds all`,
    },
    ExitCode.usage,
  );
}

const reasonOf = ({ error: { problem } }: Lost): string => problem.found ?? problem.what;

function namesOf(lost: readonly Lost[]): string {
  const names = lost.slice(0, 3).map(({ target }) => target.name);
  return names.join(', ') + (lost.length > 3 ? ` and ${lost.length - 3} more` : '');
}

/** What is recommended, at about the bits that matrices have; tables at eight, as always. */
function anew(lost: readonly Lost[], recipe: Recipe) {
  const { calibration, export: target } = recipe;
  const format = formats[target.format];
  const text = calibrationFile(recipe) !== undefined || calibration.generated;
  const groups = new Map<number, Lost[]>();
  for (const each of lost) {
    const { place } = each.target;
    if (place !== 'block' && format.keepsTables) continue;
    const bits = place === 'block' ? ([2, 3, 4].find((bits) => each.encoding.bits <= bits) ?? 8) : 8;
    groups.set(bits, [...(groups.get(bits) ?? []), each]);
  }
  const recommended = [...groups].map(([bits, of]) => {
    const widths = of.map(({ target }) => target.shape[1]);
    const { step, reason } = format.recommend({
      bits,
      text,
      imatrix: calibration.imatrix !== undefined,
      widths,
    });
    const targets = of.map(({ target }) => target.name);
    return { reason, step: fitted({ ...step, targets }, format) };
  });
  return { steps: recommended.map(({ step }) => step), reason: recommended[0]?.reason };
}

/** Names what would lose nothing, if the format holds each kind of matrix there is. */
function hint(recipe: Recipe, original: OpenedCheckpoint, narrow: readonly Target[]): string {
  const format = formats[recipe.export.format];
  const method = methods.find((each) => each.shape === 'linear' && each.convert !== undefined);
  if (!method) return '';
  const targets = format.keepsTables ? narrow.filter(({ place }) => place === 'block') : narrow;
  const labelOf = ({ name }: Target) => original.model.matrices.get(name)!.label;
  const kinds = [...new Map(targets.map((target) => [labelOf(target), target])).values()];
  const step = fitted({ method: method.name, targets: kinds.map(({ name }) => name), strict: false }, format);
  const keeping = withSteps(recipe, [step]);
  if (kinds.length === 0 || sorted(keeping, original, kinds).lost.length > 0) return '';
  return `; --method ${method.name} takes over what is there without loss`;
}

/**
 * What was kept has the values that it had, to the bit, in what was written.
 * @throws LapidaryError with exit code verification
 */
export function checkKept(recipe: Recipe, original: Model, written: Model): void {
  // Rewrites and training change values.
  if (!recipe.steps.every(isCompression)) return;
  const assign = assignment(recipe, original);
  for (const target of targetsOf(original)) {
    const { name } = target;
    const [before, assigned] = [original.matrices.get(name)!, assign(target)];
    if (before.bits >= 16 || !assigned || (keptOf(assigned, before)?.bits ?? 16) >= 16) continue;
    if (equalValues(before.dense(), written.matrices.get(name)!.dense())) continue;
    throw new LapidaryError(
      {
        what: 'a matrix that was to be kept has other values in what was written',
        where: name,
        fix: 'do not use this result, and report it',
      },
      ExitCode.verification,
    );
  }
}
