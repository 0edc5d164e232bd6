/** What the flags of `lapidary compress` mean: the input of a recipe, over one that is read from a file. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { formats } from '../formats/index.ts';
import type { Method } from '../methods/contract.ts';
import { findMethod, methods } from '../methods/index.ts';
import { describeOptions } from '../options.ts';
import type { Recipe, RecipeInput } from '../recipe.ts';
import { parseRecipe, readRecipe } from '../recipe.ts';

type FormatName = Recipe['export']['format'];

/** "blockSize" as a flag: "block-size". */
export const flagOf = (option: string): string =>
  option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * @param path of a recipe's file, where one is given
 * @param given a flag's value, undefined where it was left at its default
 */
export function recipeInput(
  model: string | undefined,
  path: string | undefined,
  given: (name: string) => unknown,
): RecipeInput {
  const defined = (values: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  const file = path === undefined ? {} : recipeFile(path);
  const section = (name: 'calibration' | 'evaluation' | 'export', values: Record<string, unknown>) => ({
    ...file[name],
    ...defined(values),
  });
  const text = { separator: given('separator'), field: given('field') };
  const format = (given('format') ?? file.export?.format ?? 'onnx') as FormatName;
  for (const [flag, own] of Object.entries(formatFlags)) if (own !== format) checkNotGiven(flag, own, given);
  const steps = stepsOf(file, format, given);
  // What made the recipe is compared with this run, unless that has other inputs on purpose.
  const { made, ...rest } = file;
  const same = [model, ...['revision', 'calibration', 'evaluation'].map(given)].every(
    (value) => value === undefined,
  );
  return {
    ...rest,
    ...(same ? defined({ made }) : {}),
    ...defined({ model, revision: given('revision'), seed: given('seed') }),
    steps,
    calibration: section('calibration', {
      ...text,
      data: given('calibration'),
      sequences: given('sequences'),
      length: given('length'),
    }),
    evaluation: section('evaluation', { ...text, data: given('evaluation'), length: given('length') }),
    export: section('export', {
      format: given('format'),
      activations: given('activations'),
      floats: given('floats'),
    }),
  } as RecipeInput;
}

/** Flags that say something about one format. */
const formatFlags: Readonly<Record<string, FormatName>> = { activations: 'onnx', floats: 'gguf' };

function checkNotGiven(flag: string, format: FormatName, given: (name: string) => unknown): void {
  if (given(flag) === undefined) return;
  throw new LapidaryError(
    {
      what: `--${flag} means something for --format ${format} only`,
      where: 'command line',
      fix: `leave it out, or add --format ${format}`,
    },
    ExitCode.usage,
  );
}

/** Checked before flags go over it, so that an error names the file. */
function recipeFile(path: string): Partial<RecipeInput> {
  const file = readRecipe(path);
  parseRecipe({ steps: [{ method: methods[0]!.name }], ...file }, path);
  return file;
}

type StepInput = RecipeInput['steps'][number];

/**
 * The method on the blocks; on the embedding and the head too where it chooses by matrix, else round-to-nearest with
 * more bits on these. Flags go over a recipe's.
 */
function stepsOf(
  file: Partial<RecipeInput>,
  format: FormatName,
  given: (name: string) => unknown,
): StepInput[] {
  const names = new Set(methods.flatMap(optionNames));
  const options = Object.fromEntries(
    [...names].map((name) => [name, given(name)]).filter(([, value]) => value !== undefined),
  );
  const method = given('method') as string | undefined;
  const bits = Number(given('embeddingBits') ?? 8);
  const embeddings: StepInput[] =
    bits < 16 ? [fitted({ method: 'rtn', targets: ['embeddings'], bits, group: 32 }, format)] : [];
  if (!file.steps) {
    const chosen = findMethod(method ?? formats[format].defaultMethod);
    for (const name of Object.keys(options))
      if (!optionNames(chosen).includes(name)) throw notItsFlag(name, chosen, method === undefined);
    if (chosen.at && given('embeddingBits') === undefined)
      return [{ method: chosen.name, targets: ['blocks', 'embeddings'], ...options }];
    return [fitted({ method: chosen.name, targets: ['blocks'], ...options }, format, options), ...embeddings];
  }
  const moved = format !== (file.export?.format ?? 'onnx');
  const changed = file.steps.map(({ targets = ['blocks'], ...step }): StepInput => {
    const own = targets.includes('blocks') ? options : {};
    const named = own === options && method !== undefined;
    const next: StepInput = { targets, ...(named ? { method } : step), ...own };
    return moved || named ? fitted(next, format, own) : next;
  });
  // A later step wins where two name the same matrices.
  if (given('embeddingBits') === undefined) return changed;
  const others = changed.map(({ targets, ...step }) => ({
    ...step,
    targets: targets!.filter((target) => target !== 'embeddings'),
  }));
  return [...others.filter(({ targets }) => targets.length > 0), ...embeddings] as StepInput[];
}

/** A step with what the format wants of its method, where that has such options; what was asked for stays. */
function fitted(
  step: StepInput,
  format: FormatName,
  asked: Readonly<Record<string, unknown>> = {},
): StepInput {
  const known = optionNames(findMethod(step.method));
  const wanted = Object.entries(formats[format].fitting(step)).filter(([name]) => known.includes(name));
  return { ...step, ...Object.fromEntries(wanted), ...asked };
}

const optionNames = ({ options }: Method): string[] => describeOptions(options).map(({ name }) => name);

/** Says whose option it is: `--type` without `--format gguf`, `--bits` with it. */
function notItsFlag(option: string, { name }: Method, isDefault: boolean): LapidaryError {
  const flag = `--${flagOf(option)}`;
  const owners = methods.filter((method) => optionNames(method).includes(option)).map((owner) => owner.name);
  const format = Object.keys(formats).find((key) => formats[key as FormatName].defaultMethod === owners[0]);
  const home = isDefault && owners.length === 1 && format !== undefined && `--format ${format}`;
  return new LapidaryError(
    {
      what: `${flag} is not an option of ${name}${isDefault ? ', the method for this format' : ''}`,
      where: 'command line',
      expected: `an option of ${name}, or a method that has it: ${owners.join(', ')}`,
      fix: `add ${home || `--method ${owners[0]}`}, or leave ${flag} out`,
    },
    ExitCode.usage,
  );
}
