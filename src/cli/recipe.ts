/** What the flags of `lapidary compress` mean: the input of a recipe, over one that is read from a file. */

import { defined } from '../base/defined.ts';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Asked } from '../formats/choose.ts';
import { bySquares, canKeep, optionNames, recommendation } from '../formats/choose.ts';
import type { FormatName } from '../formats/engines.ts';
import { destinationOf } from '../formats/engines.ts';
import { formats } from '../formats/index.ts';
import { formatOf, keptFor, typesNamed } from '../formats/types.ts';
import { kept } from '../formats/recommend.ts';
import { methods } from '../methods/index.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import { isFirstLook, isShipped, shipped } from '../open.ts';
import { flagOf } from '../recipe/options.ts';
import type { PlainRecipe } from '../recipe/recipe.ts';
import { checkRecipe, recipeFile } from '../recipe/recipe.ts';
import { stepsOf } from './steps.ts';

/**
 * @param path of a recipe's file, where one is given
 * @param given a flag's value, undefined where it was left at its default
 * @param stored what a model is quantized to already, where no method is named
 */
export function recipeInput(
  model: string | undefined,
  path: string | undefined,
  given: (name: string) => unknown,
  stored?: StoredGrid,
): PlainRecipe {
  const file = path === undefined ? {} : readInput(path);
  const section = (name: 'calibration' | 'evaluation' | 'export', values: Record<string, unknown>) => ({
    ...file[name],
    ...defined(values),
  });
  const text = { separator: given('separator'), field: given('field') };
  const calibration = given('calibration') ?? file.calibration?.data;
  const generated = given('generatedCalibration') ?? file.calibration?.generated;
  const quick = path === undefined && isFirstLook(model, calibration as string | undefined);
  const asked: Asked = {
    quick,
    ...destinationOf(
      given('for') as string | undefined,
      given('format') as FormatName | undefined,
      file.export?.format,
    ),
    model,
    bits: given('bits') === undefined ? undefined : Number(given('bits')),
    text: calibration !== undefined || generated === true || isShipped(model),
    imatrix: (given('imatrix') ?? file.calibration?.imatrix) !== undefined,
  };
  const { format, engine } = asked;
  for (const [flag, own] of Object.entries(formatFlags))
    if (!own.includes(format)) checkNotGiven(flag, own, given);
  const anew = recommendation(asked);
  const named = ['method', 'step'].some((flag) => given(flag) !== undefined) || file.steps !== undefined;
  const keeps = !named && !asksOther(given) && canKeep(stored, asked);
  const recommended = named ? undefined : keeps ? kept(stored) : anew;
  const planned = stepsOf({ file, format, given, recommended, anew: anew.step });
  const steps = given('imatrix') === undefined ? planned : bySquares(planned);
  // What made the recipe is compared with this run, unless that has other inputs on purpose.
  const { made, reason, ...rest } = file;
  const same = [model, ...['revision', 'calibration', 'imatrix', 'evaluation'].map(given)].every(
    (value) => value === undefined,
  );
  return {
    ...rest,
    ...(same ? defined({ made, reason }) : {}),
    ...defined({ reason: recommended?.reason }),
    ...defined({ model, revision: given('revision'), seed: given('seed') }),
    steps,
    calibration: section('calibration', {
      ...text,
      data: given('calibration'),
      imatrix: given('imatrix'),
      generated: given('generatedCalibration'),
      sequences: given('sequences') ?? (quick ? shipped.sequences : undefined),
      length: given('length'),
    }),
    evaluation: section('evaluation', { ...text, data: given('evaluation'), length: given('length') }),
    export: section('export', {
      ...engine.export,
      format,
      ...defined({
        activations: given('activations'),
        cache: given('cache'),
        products: given('products'),
        floats: given('floats'),
      }),
    }),
  } as PlainRecipe;
}

/**
 * An input for each type that `--types` names, or the one without it.
 * @throws LapidaryError (usage) on types that the format does not have, or flags that say what a type says
 */
export function typedInputs(
  model: string | undefined,
  path: string | undefined,
  given: (name: string) => unknown,
  stored?: StoredGrid,
): readonly { readonly type?: string; readonly input: PlainRecipe }[] {
  const names = given('types') as string | undefined;
  if (names === undefined) return [{ input: recipeInput(model, path, given, stored) }];
  const listed = names.split(',');
  const asked = given('format') as FormatName | undefined;
  const { format } = destinationOf(given('for') as string | undefined, asked, formatOf(listed));
  const types = typesNamed(listed, format);
  const said = [...types.values()].flatMap(({ options, export: written }) =>
    Object.keys({ ...options, ...written }),
  );
  const other = ['recipe', 'step', ...said].find((name) => given(name) !== undefined);
  if (other !== undefined) throw besideTypes(other, listed);
  // What is said of a method is for those types that have one.
  const ofMethods = ['embeddingBits', 'also', ...methods.flatMap(optionNames)];
  const floats = {
    ...Object.fromEntries(ofMethods.map((name) => [name, undefined])),
    method: 'keep',
    form: 'floats',
  };
  return [...types].map(([type, wanted]) => {
    const own: Readonly<Record<string, unknown>> = {
      ...(wanted.options ?? floats),
      ...wanted.export,
      format,
    };
    const over = (name: string) => (name in own ? own[name] : given(name));
    return { type, input: recipeInput(model, undefined, over, keptFor(wanted, stored)) };
  });
}

function besideTypes(name: string, types: readonly string[]): LapidaryError {
  const fix =
    name === 'recipe'
      ? 'leave out one of them; a folder of several types has a recipe for each'
      : `leave it out, or run once for each of ${types.join(', ')}`;
  return new LapidaryError(
    {
      what: `--${flagOf(name)} beside --types`,
      where: 'command line',
      expected: 'types that say this themselves',
      fix,
    },
    ExitCode.usage,
  );
}

/** Whether flags ask for more of the method than bits. */
const asksOther = (given: (name: string) => unknown): boolean =>
  [...methods.flatMap(optionNames), 'imatrix'].some((name) => name !== 'bits' && given(name) !== undefined);

/** Flags that say something about some formats. */
const formatFlags: Readonly<Record<string, readonly FormatName[]>> = {
  activations: ['onnx'],
  cache: ['onnx'],
  products: ['onnx'],
  floats: (Object.keys(formats) as FormatName[]).filter((name) => name !== 'onnx'),
};

function checkNotGiven(flag: string, formats: readonly FormatName[], given: (name: string) => unknown): void {
  if (given(flag) === undefined) return;
  throw new LapidaryError(
    {
      what: `--${flag} means something for --format ${formats.join(', ')} only`,
      where: 'command line',
      fix: `leave it out, or add --format ${formats[0]}`,
    },
    ExitCode.usage,
  );
}

/** Checked before flags go over it, so that an error names the file. */
function readInput(path: string): Partial<PlainRecipe> {
  const file = recipeFile(path);
  checkRecipe({ steps: [{ method: methods[0]!.name }], ...file }, path);
  return file;
}
