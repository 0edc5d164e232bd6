/** What the flags of `lapidary compress` mean: the input of a recipe, over one that is read from a file. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { parseJsonObject } from '../base/json.ts';
import { targetHelp } from '../calibrate/select.ts';
import { fitted } from '../formats/fitted.ts';
import type { Engine } from '../formats/format.ts';
import { formats } from '../formats/index.ts';
import type { Recommendation } from '../formats/recommend.ts';
import { kept } from '../formats/recommend.ts';
import { openGguf } from '../io/gguf/read.ts';
import type { Method, StepInput } from '../methods/contract.ts';
import { findMethod, methods } from '../methods/index.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import { isShipped } from '../open.ts';
import { describeOptions, flagOf } from '../recipe/options.ts';
import type { Recipe, RecipeInput } from '../recipe/recipe.ts';
import { compresses, parseRecipe, readRecipe } from '../recipe/recipe.ts';

type FormatName = Recipe['export']['format'];

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
): RecipeInput {
  const defined = (values: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  const file = path === undefined ? {} : recipeFile(path);
  const section = (name: 'calibration' | 'evaluation' | 'export', values: Record<string, unknown>) => ({
    ...file[name],
    ...defined(values),
  });
  const text = { separator: given('separator'), field: given('field') };
  const format = formatOf(given) ?? file.export?.format ?? 'onnx';
  for (const [flag, own] of Object.entries(formatFlags))
    if (!own.includes(format)) checkNotGiven(flag, own, given);
  const engine = engineOf(format, given);
  const anew = recommendation(model, file, format, given);
  const named = given('method') !== undefined || file.steps !== undefined;
  const recommended = named ? undefined : isKept(stored, format, given) ? kept(stored!) : anew;
  const steps = bySquares(stepsOf(file, format, given, recommended, anew.step), given);
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
      sequences: given('sequences'),
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
  } as RecipeInput;
}

/** By `--format`, or by the engine that `--for` names. */
function formatOf(given: (name: string) => unknown): FormatName | undefined {
  const engine = given('for') as string | undefined;
  const named = given('format') as FormatName | undefined;
  if (engine === undefined) return named;
  const format = Object.entries(formats).find(([, { engines }]) =>
    Object.hasOwn(engines, engine),
  )![0] as FormatName;
  if (named === undefined || named === format) return format;
  throw new LapidaryError(
    {
      what: `${engine} does not run ${formats[named].label}`,
      where: 'command line',
      expected: `--format ${format}, or no --format`,
    },
    ExitCode.usage,
  );
}

/** What the engine that `--for` names wants of its format. */
const engineOf = (format: FormatName, given: (name: string) => unknown): Engine =>
  formats[format].engines[String(given('for'))] ?? {};

/** Bits that are asked for, or what the engine is best with. */
const bitsOf = (format: FormatName, given: (name: string) => unknown): number =>
  Number(given('bits') ?? engineOf(format, given).bits ?? 4);

/** What the engine or its format recommends for this model, as far as that is known before it is opened. */
function recommendation(
  model: string | undefined,
  file: Partial<RecipeInput>,
  format: FormatName,
  given: (name: string) => unknown,
): Recommendation {
  const calibration = given('calibration') ?? file.calibration?.data;
  const generated = given('generatedCalibration') ?? file.calibration?.generated;
  const wanted = {
    bits: bitsOf(format, given),
    text: calibration !== undefined || generated === true || isShipped(model),
    imatrix: (given('imatrix') ?? file.calibration?.imatrix) !== undefined,
    widths: widthsOf(model),
  };
  return engineOf(format, given).recommend?.(wanted) ?? formats[format].recommend(wanted);
}

/** Whether what is quantized already is taken over: it fits, has no more bits than are asked for, and nothing else is. */
function isKept(
  stored: StoredGrid | undefined,
  format: FormatName,
  given: (name: string) => unknown,
): boolean {
  const options = [...methods.flatMap(optionNames), 'imatrix'];
  const asked = options.some((name) => name !== 'bits' && given(name) !== undefined);
  if (!stored || asked || stored.bits > bitsOf(format, given)) return false;
  const { grids } = formats[format];
  return (grids.offsets || !stored.offsets) && (grids.wideScales || stored.halfScales);
}

/** Of a model on this machine; what is wrong with it is said when it is opened. */
function widthsOf(model: string | undefined): readonly number[] {
  try {
    if (model?.endsWith('.gguf')) {
      const blocks = [...openGguf(model).tensors].filter(([name]) => name.startsWith('blk.'));
      return [...new Set(blocks.flatMap(([, { shape }]) => (shape.length === 2 ? shape[1] : [])))];
    }
    const path = join(model ?? '', 'config.json');
    const json = parseJsonObject(readFileSync(path), { where: path });
    return [json.hidden_size, json.intermediate_size].filter((width) => typeof width === 'number');
  } catch {
    return [];
  }
}

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
function recipeFile(path: string): Partial<RecipeInput> {
  const file = readRecipe(path);
  parseRecipe({ steps: [{ method: methods[0]!.name }], ...file }, path);
  return file;
}

type Step = RecipeInput['steps'][number];
type Options = Readonly<Record<string, unknown>>;

/**
 * The named methods, then round-to-nearest with more bits on the embedding and the head, unless the method chooses by
 * matrix or the format keeps these as they are. Flags go over a recipe's.
 */
function stepsOf(
  file: Partial<RecipeInput>,
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
    ? changedSteps(file.steps, format, format !== (file.export?.format ?? 'onnx'), method, options)
    : namedSteps(method, format, options, recommended?.step);
  const tables = tableSteps(steps, format, file.steps !== undefined, given, recommended?.tables);
  const last = steps.findLast(({ targets }) => targets !== undefined)!;
  // Other options than those of what keeps a matrix are for what compresses it.
  const main = (findMethod(last.method) as { convert?: unknown }).convert ? { ...anew, targets: [] } : last;
  return [...steps, ...tables, ...alsoSteps(main, format, given('also') as readonly string[] | undefined)];
}

/** "awq+gptq": rewrites, then a compressor; without one, what the last rewrite wants. */
function namedSteps(
  named: string | undefined,
  format: FormatName,
  options: Options,
  recommended: StepInput | undefined,
): Step[] {
  const chain = (named ?? recommended!.method).split('+').map((name) => findMethod(name.trim()));
  const last = chain.at(-1)!;
  const follower = last.shape === 'rewrite' ? last.followedBy : recommended;
  const all = last.shape === 'rewrite' ? [...chain, findMethod(follower!.method)] : chain;
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
  return all.map((method) => {
    const own = Object.fromEntries(
      Object.entries(options).filter(([name]) => optionNames(method).includes(name)),
    );
    if (!compresses(method)) return { method: method.name, ...own };
    const start = { ...follower, method: method.name };
    return fitted({ ...start, targets: ['blocks'], ...own }, formats[format], own);
  });
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

/** What becomes of the embedding and the head. */
function tableSteps(
  steps: Step[],
  format: FormatName,
  fromFile: boolean,
  given: (name: string) => unknown,
  recommended?: StepInput,
): Step[] {
  const asked = given('embeddingBits');
  if (formats[format].keepsTables && asked !== undefined && Number(asked) < 16) {
    throw new LapidaryError(
      {
        what: `--embedding-bits ${asked}: ${formats[format].label} keeps the embedding and the head as they are`,
        where: 'command line',
        fix: 'leave it out',
      },
      ExitCode.usage,
    );
  }
  if (asked === undefined && (fromFile || formats[format].keepsTables)) return [];
  const main = steps.findLast(({ targets }) => targets)!;
  const { at, convert } = findMethod(main.method) as { at?: unknown; convert?: unknown };
  // Methods that choose by matrix, or change none, are for these too.
  if ((at || convert) && asked === undefined) {
    steps[steps.indexOf(main)] = { ...main, targets: ['blocks', 'embeddings'] };
    return [];
  }
  // A later step wins where two name the same matrices.
  for (const [index, { targets, ...step }] of [...steps.entries()].reverse()) {
    if (!targets?.includes('embeddings')) continue;
    const others = targets.filter((target) => target !== 'embeddings');
    if (others.length > 0) steps[index] = { ...step, targets: others } as Step;
    else steps.splice(index, 1);
  }
  if (recommended && asked === undefined) return [{ ...recommended, targets: ['embeddings'] }];
  const bits = Number(asked ?? 8);
  return bits < 16
    ? [fitted({ method: 'rtn', targets: ['embeddings'], bits, group: 32 }, formats[format])]
    : [];
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
    const start = own.method === undefined || own.method === main.method ? main : {};
    return fitted({ ...start, ...own, targets: [target!] } as Step, formats[format], own);
  });
}

/** What an importance matrix is enough for, unless a step says otherwise itself. */
function bySquares(steps: readonly Step[], given: (name: string) => unknown): Step[] {
  return steps.map((step) => {
    const method = findMethod(step.method);
    const enough = given('imatrix') !== undefined && method.shape === 'linear' ? method.bySquares : {};
    return { ...(enough as Options), ...step };
  });
}

const camel = (flag: string): string =>
  flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** A flag's text as YAML would have it. */
export function plainValue(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return Number.isNaN(Number(text)) ? text : Number(text);
}

const optionNames = ({ options }: Method): string[] => describeOptions(options).map(({ name }) => name);

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
