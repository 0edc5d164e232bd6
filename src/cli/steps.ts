/**
 * Steps of a recipe from the flags of `lapidary compress`: written one by one with `--step`, or by the shorthand of one
 * (`--method`, its options, `--also`), over those of a recipe's file.
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { targetHelp } from '../calibrate/select.ts';
import { chainOf, optionNames, stepsOfChain, withTables } from '../formats/choose.ts';
import type { FormatName } from '../formats/engines.ts';
import { fitted } from '../formats/fitted.ts';
import { formats } from '../formats/index.ts';
import type { Recommendation } from '../formats/recommend.ts';
import type { Method, StepInput } from '../contract/method.ts';
import { findMethod, methods } from '../methods/index.ts';
import { flagOf } from '../recipe/options.ts';
import type { PlainRecipe } from '../recipe/recipe.ts';
import { camelCase, parseStepText, plainValue } from '../recipe/step-text.ts';
import type { WrittenStep } from '../recipe/steps.ts';
import { compresses } from '../recipe/steps.ts';

type Step = WrittenStep;
type Options = Readonly<Record<string, unknown>>;

/** All flags that say something of the steps. */
export interface StepFlags {
  readonly file: Partial<PlainRecipe>;
  readonly format: FormatName;
  readonly given: (name: string) => unknown;
  /** Where nobody names a method. */
  readonly recommended: Recommendation | undefined;
  /** What is recommended for what is compressed anew. */
  readonly anew: StepInput;
}

/** @throws LapidaryError (usage) on steps that cannot be read, and on flags that go with none of them */
export function stepsOf(flags: StepFlags): Step[] {
  const written = flags.given('step') as readonly string[] | undefined;
  if (!written) return shorthand(flags);
  checkUnmixed(flags.given);
  return writtenSteps(written, flags.format, flags.given('embeddingBits'));
}

/**
 * Each step by itself, with what the format asks for besides. One without targets is for the blocks; the embedding and the
 * head then become what they do beside `--method`, unless a later step means them.
 */
function writtenSteps(lines: readonly string[], format: FormatName, embeddingBits: unknown): Step[] {
  const own = lines.map((line, index) => parseStepText(line, `--step ${index + 1}, "${line}"`));
  const last = findMethod(own.at(-1)!.method);
  const isBare = !own.some(({ method }) => compresses(findMethod(method)));
  const follower = isBare && last.shape === 'rewrite' ? last.followedBy : undefined;
  const all: Step[] = (follower ? [...own, follower] : own).map((step) =>
    compresses(findMethod(step.method)) ? fitted(step, formats[format], step) : step,
  );
  const isForBlocks = ({ method, targets }: Step) => compresses(findMethod(method)) && !targets;
  const first = all.findIndex(isForBlocks);
  const aimed = all.map((step) => (isForBlocks(step) ? { ...step, targets: ['blocks'] } : step));
  const bits = embeddingBits === undefined ? undefined : Number(embeddingBits);
  const at = first < 0 && bits !== undefined ? aimed.findIndex(({ targets }) => targets) : first;
  if (at < 0) return aimed;
  const { steps, tables } = withTables(aimed.slice(0, at + 1), { format, bits });
  return [...steps, ...tables, ...aimed.slice(at + 1)];
}

/** A step has its options itself. */
function checkUnmixed(given: (name: string) => unknown): void {
  const others = ['method', 'also', ...methods.flatMap(optionNames)];
  const mixed = others.find((name) => given(name) !== undefined);
  if (mixed === undefined) return;
  const value = [given(mixed)].flat().join(' ');
  const steps: Readonly<Record<string, string>> = {
    method: `--step "${value}"`,
    also: '--step "METHOD OPTIONS targets=..."',
  };
  throw new LapidaryError(
    {
      what: `--${flagOf(mixed)} beside --step`,
      where: 'command line',
      expected: 'steps with --step alone, or one step by --method and its options',
      fix: `write it as ${mixed in steps ? 'a step of its own' : 'an option of the step'}: ${steps[mixed] ?? `--step "METHOD ${mixed}=${value}"`}`,
    },
    ExitCode.usage,
  );
}

/**
 * The named methods, then round-to-nearest with more bits on the embedding and the head, unless the method chooses by
 * matrix or the format keeps these as they are. Flags go over a recipe's.
 */
function shorthand({ file, format, given, recommended, anew }: StepFlags): Step[] {
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
    const own = Object.fromEntries(pairs.map(([name, value]) => [camelCase(name!), plainValue(value!)]));
    const start: Partial<Step> = own.method === undefined || own.method === main.method ? main : {};
    return fitted({ ...start, ...own, targets: [target!] } as Step, formats[format], own);
  });
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
