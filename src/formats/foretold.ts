/**
 * What a run says before the work: what was chosen, what is missing, and what will come out differently than one may expect.
 * Each format knows this for what it stores.
 */

import { targetsOf } from '../calibrate/targets.ts';
import type { Model } from '../models/model.ts';
import { assignment } from '../run/assignment.ts';
import { calibrationFile } from '../run/texts.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { isCompression, methodsOf } from '../recipe/steps.ts';
import type { IntegerWeights } from './format.ts';
import { formats } from './index.ts';

/** What a run is about to do that nobody asked for in so many words: told before it. */
export function opening(recipe: Recipe): readonly string[] {
  const { reason, calibration, evaluation } = recipe;
  const chosen = reason === undefined ? [] : [`Chosen: ${inWords(recipe)}: ${reason}.`];
  const text = calibrationFile(recipe) ?? evaluation.data;
  if (text !== undefined || calibration.generated) return chosen;
  const methods = methodsOf(recipe.steps).join('+');
  return [
    `No text: ${methods}, and nothing will be measured; --calibration FILE or --generated-calibration.`,
    ...chosen,
  ];
}

/** "gptq, 4 bits, groups of 32" */
function inWords({ steps }: Recipe): string {
  const { type, bits, group } = steps.find(isCompression)?.options ?? {};
  const parts = [
    methodsOf(steps).join('+'),
    type ?? (bits === undefined ? undefined : `${bits} bits`),
    typeof group !== 'number' ? undefined : group === -1 ? 'whole rows' : `groups of ${group}`,
  ];
  return parts.filter((part) => part !== undefined).join(', ');
}

/** Sentences for the report, too. */
export const foretold = (recipe: Recipe, model: Model): readonly string[] => [
  ...widened(recipe, model),
  ...(formats[recipe.export.format].foretell?.(recipe, model) ?? []),
];

/** Codes that the format stores in more bits than they have: nothing is saved by them. */
function widened(recipe: Recipe, model: Model): readonly string[] {
  const format = formats[recipe.export.format];
  const assign = assignment(recipe, model);
  const widths = new Map<
    string,
    { readonly bits: number; readonly stored: number; readonly inputs: boolean }
  >();
  for (const target of targetsOf(model)) {
    const integers = integersOf((assign(target)?.options ?? {}) as Readonly<Record<string, unknown>>);
    const stored = integers && format.storedBits(integers);
    if (!integers || !stored || stored === integers.bits) continue;
    const { bits, roundedInputs: inputs } = integers;
    widths.set(`${bits}, ${inputs}`, { bits, stored, inputs });
  }
  return [...widths.values()].map(({ bits, stored, inputs }) => {
    const told = `${bits}-bit weights${inputs ? ' whose inputs are rounded' : ''} take ${stored} bits in this format (${format.label})`;
    const better = inputs
      ? 'more bits are as small and lose less'
      : `--bits ${stored} is as small and loses less`;
    const others = inputs ? [] : enginesWith(bits);
    return `${told}: ${better}${others.length > 0 ? `; ${others.join(' or ')} stores ${bits}` : ''}`;
  });
}

/** Undefined for what is none. */
function integersOf(options: Readonly<Record<string, unknown>>): IntegerWeights | undefined {
  const { bits, symmetric, numbers = 'integers', inputBits } = options;
  if (typeof bits !== 'number' || numbers !== 'integers') return undefined;
  return { bits, zeroPoints: symmetric !== true, roundedInputs: inputBits !== undefined };
}

/** What runs files that keep so many bits, by what is recommended for them: "--for mlx". */
function enginesWith(bits: number): string[] {
  return Object.values(formats).flatMap(({ engines, recommend, storedBits }) => {
    const { step } = recommend({ bits, text: true, widths: [] });
    const integers = integersOf(step);
    const [engine] = Object.keys(engines);
    if (engine === undefined) return [];
    // Types of its own, of every width.
    if (!integers)
      return [`--for ${engine}${step.type === undefined ? '' : ` without --method (${step.type})`}`];
    return storedBits(integers) === bits ? [`--for ${engine}`] : [];
  });
}
