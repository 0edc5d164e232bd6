/**
 * What people are told about a method, by the command line (`lapidary methods`) and by docs/methods.md: all of it follows
 * from the method's declaration and from what formats say they can hold.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Method, StepInput } from '../contract/method.ts';
import type { StatisticKind } from '../contract/statistic.ts';
import { familyOf, methods } from '../methods/index.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { OptionInfo } from '../recipe/options.ts';
import { describeOptions, flagOf } from '../recipe/options.ts';
import { stepNeedsText } from '../run/texts.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { compresses } from '../recipe/steps.ts';
import { fitted } from './fitted.ts';
import { formats } from './index.ts';

type FormatName = keyof typeof formats;

export interface MethodDescription {
  readonly name: string;
  /** "Quantization" */
  readonly family: string;
  /** What it does in a recipe: "compresses matrices". */
  readonly kind: string;
  /** One sentence with its paper. */
  readonly summary: string;
  /** Addresses of the papers that the summary names. */
  readonly papers: readonly string[];
  /** "calibration text, or an importance matrix (--imatrix)" */
  readonly needs: string;
  /** What is computed of that text for it: "the Gram matrix of each layer's inputs"; undefined where nothing is. */
  readonly statistic?: string | undefined;
  readonly options: readonly OptionInfo[];
  /** A command that uses it. */
  readonly example: string;
}

export const kinds = {
  compressor: 'compresses matrices',
  rewrite: 'rewrites the model first, so that it compresses better',
  training: 'trains what is compressed',
} as const;

export function describeMethod(method: Method): MethodDescription {
  const kind = compresses(method) ? 'compressor' : method.shape === 'rewrite' ? 'rewrite' : 'training';
  const { name, summary } = method;
  const papers = [...summary.matchAll(/arXiv:(\d{4}\.\d{4,5})/g)].map(
    ([, id]) => `https://arxiv.org/abs/${id}`,
  );
  return {
    name,
    family: familyOf(method)?.title ?? 'Others',
    kind: kinds[kind],
    summary,
    papers,
    needs: needsOf(method),
    statistic: statisticOf(method),
    options: describeOptions(method.options),
    example: exampleOf(method),
  };
}

/** What a method cannot do without. */
function needsOf(method: Method): string {
  const options = method.options.parse({}) as Readonly<Record<string, unknown>>;
  if (method.shape === 'train') return 'calibration text; trains by gradient';
  if (!stepNeedsText({ method, options })) return 'no text';
  const squares = method.shape === 'linear' && method.bySquares;
  const without = describeOptions(method.options).flatMap(({ name, choices = [] }) =>
    choices
      .filter((choice) => !stepNeedsText({ method, options: { ...options, [name]: choice } }))
      .map((choice) => `--${flagOf(name)} ${choice}`),
  );
  return [
    'calibration text',
    ...(squares ? ['or an importance matrix (--imatrix)'] : []),
    ...(without.length > 0 ? [`or none with ${without.join(', ')}`] : []),
  ].join(', ');
}

const statistics: Readonly<Record<StatisticKind, string | undefined>> = {
  none: undefined,
  squares: 'the squares of each input of a layer, summed',
  norm: 'size, square and largest value of each input of a layer',
  gram: "the Gram matrix XᵀX of each layer's inputs",
  full: "the Gram matrix XᵀX of each layer's inputs, and their largest values",
  cross: "the Gram matrix XᵀX of each layer's inputs, and how they differ from the original's",
  all: "all of each layer's inputs: Gram matrix, largest values, how they differ from the original's",
};

/** By the method's defaults. */
function statisticOf(method: Method): string | undefined {
  if (method.shape === 'train')
    return method.scope === 'model' ? 'gradients of the whole model' : "gradients of each block's error";
  if (method.shape === 'rewrite' && method.scope === 'model') return undefined;
  return statistics[method.statistic(method.options.parse({}))];
}

/** A method's steps with those that it cannot go without: what a rewrite prepares, what a training trains. */
function stepsOf(method: Method, format?: FormatName): StepInput[] {
  const own = { method: method.name };
  const fits = (step: StepInput) => (format ? fitted(step, formats[format]) : step);
  if (compresses(method)) return [fits(own)];
  if (method.shape === 'rewrite') return method.followedBy ? [own, fits(method.followedBy)] : [own];
  return [fits({ method: methods.find(compresses)!.name }), own];
}

/** Of what stands behind `--method`. */
function exampleOf(method: Method): string {
  const steps = stepsOf(method).map((step) => step.method);
  const keeps = method.shape === 'linear' && method.convert !== undefined;
  const home = Object.keys(formats).find((name) => recommends(name as FormatName, method));
  return [
    'lapidary compress',
    keeps ? 'model-Q4_1.gguf' : './my-model',
    `--method ${steps.join('+')}`,
    ...(home === undefined || home === 'onnx' ? [] : [`--format ${home}`]),
    ...(needsText(method) ? ['--calibration text.jsonl'] : []),
  ].join(' ');
}

const recommends = (format: FormatName, { name }: Method): boolean =>
  formats[format].recommend({ bits: 4, text: true, widths: [] }).step.method === name;

/** Whether one of a method's own steps does, with the options that they have by themselves. */
const needsText = (method: Method): boolean =>
  checkRecipe({ steps: stepsOf(method) }).steps.some((step) => stepNeedsText(step));

export interface FormatAnswer {
  readonly format: FormatName;
  /** "GGUF for llama.cpp" */
  readonly label: string;
  /** What runs the format, as `--for` names it; empty where the format is named only by itself. */
  readonly engines: readonly string[];
  /** Why the format does not hold what the method makes by its defaults; undefined where it does. */
  readonly refused?: string | undefined;
}

/**
 * What formats say to a method with its defaults, in their order.
 * @param model whose matrices it would compress
 */
export async function formatsOf(method: Method, model: OpenedCheckpoint): Promise<FormatAnswer[]> {
  const answers: FormatAnswer[] = [];
  for (const [format, { label, engines, check }] of entries) {
    const steps = stepsOf(method, format);
    const refused = await refusal(() => check(checkRecipe({ steps, export: { format } }), model));
    answers.push({ format, label, engines: Object.keys(engines), refused });
  }
  return answers;
}

const entries = Object.entries(formats) as [FormatName, (typeof formats)[FormatName]][];

async function refusal(check: () => Promise<void>): Promise<string | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    if (!(error instanceof LapidaryError)) throw error;
    const { what, found } = error.problem;
    return found ?? what;
  }
}

/** "2, 3, 4, 8", "0 to 1", "on or off": what an option may be. */
export function rangeOf({ type, choices, alternatives, minimum, maximum }: OptionInfo): string {
  if (alternatives) return alternatives.join(', ');
  if (choices) return choices.join(', ');
  if (type === 'boolean') return 'on or off';
  const bounded = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER;
  if (minimum !== undefined) return bounded ? `${minimum} to ${maximum}` : `from ${minimum}`;
  return bounded ? `up to ${maximum}` : '';
}

/** What an option is where nobody says: "4", "on"; empty where that hangs on others. */
export function defaultOf({ type, default: standard }: OptionInfo): string {
  if (standard === undefined) return '';
  return type === 'boolean' ? (standard ? 'on' : 'off') : String(standard);
}
