/** What the flags of `lapidary compress` mean: the input of a recipe, over one that is read from a file. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { targetHelp } from '../calibrate/select.ts';
import type { Asked, PlannedStep } from '../formats/choose.ts';
import {
  bySquares,
  canKeep,
  chainOf,
  optionNames,
  recommendation,
  stepsOfChain,
  withTables,
} from '../formats/choose.ts';
import type { FormatName } from '../formats/engines.ts';
import { destinationOf } from '../formats/engines.ts';
import { fitted } from '../formats/fitted.ts';
import { formats } from '../formats/index.ts';
import type { Recommendation } from '../formats/recommend.ts';
import { kept } from '../formats/recommend.ts';
import type { Method, StepInput } from '../methods/contract.ts';
import { findMethod, methods } from '../methods/index.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import { isShipped, shipped } from '../open.ts';
import { flagOf } from '../recipe/options.ts';
import type { PlainRecipe } from '../recipe/recipe.ts';
import { checkRecipe, recipeFile } from '../recipe/recipe.ts';
import { compresses } from '../recipe/steps.ts';

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
  const defined = (values: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  const file = path === undefined ? {} : readInput(path);
  const section = (name: 'calibration' | 'evaluation' | 'export', values: Record<string, unknown>) => ({
    ...file[name],
    ...defined(values),
  });
  const text = { separator: given('separator'), field: given('field') };
  const calibration = given('calibration') ?? file.calibration?.data;
  const generated = given('generatedCalibration') ?? file.calibration?.generated;
  const asked: Asked = {
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
  const named = given('method') !== undefined || file.steps !== undefined;
  const keeps = !named && !asksOther(given) && canKeep(stored, asked);
  const recommended = named ? undefined : keeps ? kept(stored) : anew;
  const planned = stepsOf(file, format, given, recommended, anew.step);
  const steps = given('imatrix') === undefined ? planned : bySquares(planned);
  // A first look at what the package does.
  const quick = isShipped(model) && path === undefined && calibration === undefined;
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

type Step = PlannedStep;
type Options = Readonly<Record<string, unknown>>;

/**
 * The named methods, then round-to-nearest with more bits on the embedding and the head, unless the method chooses by
 * matrix or the format keeps these as they are. Flags go over a recipe's.
 */
function stepsOf(
  file: Partial<PlainRecipe>,
  format: FormatName,
  given: (name: string) => unknown,
  recommended: Recommendation | undefined,
  anew: StepInput,
): Step[] {
  const names = new Set(methods.flatMap(optionNames));
  const options = Object.fromEntries(
    [...names].map((name) => [name, given(name)]).filter(([, value]) => value !== undefined),
  );
  const method = given('method') as string | undefined;
  const steps = file.steps
    ? changedSteps(
        file.steps as readonly Step[],
        format,
        format !== (file.export?.format ?? 'onnx'),
        method,
        options,
      )
    : namedSteps(method, format, options, recommended?.step);
  const last = steps.findLast(({ targets }) => targets !== undefined)!;
  const asked = given('embeddingBits');
  const whole = withTables(steps, {
    format,
    bits: asked === undefined ? undefined : Number(asked),
    recommended: recommended?.tables,
    own: file.steps !== undefined,
  });
  // Other options than those of what keeps a matrix are for what compresses it.
  const main = (findMethod(last.method) as { convert?: unknown }).convert ? { ...anew, targets: [] } : last;
  const also = alsoSteps(main, format, given('also') as readonly string[] | undefined);
  return [...whole.steps, ...whole.tables, ...also];
}

/** "awq+gptq": rewrites, then a compressor; without one, what the last rewrite wants. */
function namedSteps(
  named: string | undefined,
  format: FormatName,
  options: Options,
  recommended: StepInput | undefined,
): Step[] {
  const names = named ?? recommended!.method;
  const all = chainOf(names);
  const main = all.findIndex(compresses);
  const early = all.find(
    ({ shape }, index) =>
      (shape === 'rewrite') !== index < main || (compresses(all[index]) && index !== main),
  );
  if (early) {
    throw new LapidaryError(
      {
        what: `${early.name} cannot stand there`,
        where: '--method',
        expected: 'rewrites, then one compressor, then training: awq+gptq+e2e-qp',
        fix: 'give other matrices another method with --also',
      },
      ExitCode.usage,
    );
  }
  for (const name of Object.keys(options))
    if (!(recommended && name === 'bits') && !all.some((method) => optionNames(method).includes(name)))
      throw notItsFlag(name, all[main]!, named === undefined);
  return stepsOfChain(names, { format, start: recommended, options });
}

/** A recipe's steps with flags over those of the blocks. */
function changedSteps(
  steps: readonly Step[],
  format: FormatName,
  moved: boolean,
  method: string | undefined,
  options: Options,
): Step[] {
  if (method?.includes('+')) {
    throw new LapidaryError(
      {
        what: 'several methods over a recipe that has its own',
        where: '--method',
        fix: 'name one, or change the steps in the recipe',
      },
      ExitCode.usage,
    );
  }
  return steps.map((step) => {
    if (!compresses(findMethod(step.method))) return step;
    const { targets = ['blocks'], ...rest } = step;
    const own = targets.includes('blocks') ? options : {};
    const named = own === options && method !== undefined;
    const next: Step = { targets, ...(named ? { method } : rest), ...own };
    return moved || named ? fitted(next, formats[format], own) : next;
  });
}

/** "sensitive:10% bits=8", "*.down_proj keep": the main compressor with other options, or another one, for some matrices. */
function alsoSteps(main: Step, format: FormatName, also: readonly string[] = []): Step[] {
  return also.map((text) => {
    const [target, ...settings] = text.trim().split(/\s+/);
    // A method's name alone will do.
    const pairs = settings.map((setting) =>
      methods.some(({ name }) => name === setting) ? ['method', setting] : setting.split('='),
    );
    if (pairs.length === 0 || pairs.some((pair) => pair.length !== 2 || pair.includes(''))) {
      throw new LapidaryError(
        {
          what: `--also "${text}" cannot be read`,
          where: 'command line',
          expected:
            'a target, then a method or options: "last bits=8", "*.down_proj rtn bits=8", "*.o_proj keep"',
          found: `targets are ${targetHelp}`,
        },
        ExitCode.usage,
      );
    }
    const own = Object.fromEntries(pairs.map(([name, value]) => [camel(name!), plainValue(value!)]));
    const start: Partial<Step> = own.method === undefined || own.method === main.method ? main : {};
    return fitted({ ...start, ...own, targets: [target!] } as Step, formats[format], own);
  });
}

const camel = (flag: string): string =>
  flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** A flag's text as YAML would have it. */
export function plainValue(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return Number.isNaN(Number(text)) ? text : Number(text);
}

/** Says whose option it is: `--type` without `--format gguf`, `--bits` with it. */
function notItsFlag(option: string, { name }: Method, isDefault: boolean): LapidaryError {
  const flag = `--${flagOf(option)}`;
  const owners = methods.filter((method) => optionNames(method).includes(option)).map((owner) => owner.name);
  const format = Object.keys(formats).find(
    (key) =>
      formats[key as FormatName].recommend({ bits: 4, text: true, widths: [] }).step.method === owners[0],
  );
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
