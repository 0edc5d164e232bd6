/**
 * A recipe: everything that decides the bytes of a compressed model, as one YAML file. A run writes the complete one
 * beside its result, with every default spelled out and the hashes of what went in.
 */

import { readFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { z } from 'zod';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { isObject, shortened } from '../base/json.ts';
import { parseYaml } from '../base/yaml.ts';
import type { Method, StepOptions } from '../contract/method.ts';
import { withoutAddress } from '../io/hub-id.ts';
import type { BuiltInStep } from '../methods/index.ts';
import { findMethod, methods } from '../methods/index.ts';
import { parseOptions } from './options.ts';
import { checkOrder } from './stages.ts';
import type { Step, StepOptions as Options } from './steps.ts';
import { compresses } from './steps.ts';

const data = {
  data: z.string().optional().describe('text, JSON, CSV, TSV or Parquet file'),
  separator: z.string().optional().describe('what stands between the documents of a text file'),
  field: z.string().optional().describe('field or column that holds the text or the messages'),
};

export const recipeSchema = z.strictObject({
  model: z
    .string()
    .transform(withoutAddress)
    .optional()
    .describe('folder or hub id; left out: the model that ships with the package'),
  revision: z.string().optional().describe('branch, tag or commit of a hub id'),
  seed: z.int().min(0).default(0).describe('seed of everything random'),
  steps: z
    .array(z.looseObject({ method: z.string(), targets: z.array(z.string()).min(1).optional() }))
    .min(1)
    .describe('methods in order, each with its options; targets: what a compressor is for'),
  calibration: z
    .strictObject({
      ...data,
      imatrix: z
        .string()
        .optional()
        .describe('importance matrix of llama.cpp, GGUF or .dat, in place of text where it is enough'),
      generated: z.boolean().default(false).describe('text that the model writes itself, in place of a file'),
      sequences: z.int().min(1).default(128).describe('sequences that statistics are collected on'),
      length: z.int().min(8).default(512).describe('tokens a sequence, at most the context'),
    })
    .prefault({}),
  evaluation: z
    .strictObject({
      ...data,
      sequences: z.int().min(1).default(32).describe('sequences or documents that are evaluated'),
      length: z.int().min(8).default(512).describe('tokens a sequence, at most the context'),
    })
    .prefault({}),
  export: z
    .strictObject({
      format: z
        .enum(['onnx', 'gguf', 'compressed-tensors', 'gptq', 'awq', 'mlx'])
        .default('onnx')
        .describe(
          'onnx for transformers.js, gguf for llama.cpp, compressed-tensors, gptq and awq for vLLM, mlx for mlx-lm',
        ),
      activations: z
        .enum(['float32', 'float16'])
        .default('float32')
        .describe('type the written graph computes in'),
      accuracyLevel: z
        .union([z.literal('auto'), z.literal(0), z.literal(4)])
        .default('auto')
        .describe('products with codes on CPU: 0 float, 4 int8 activations, auto measures both'),
      cache: z
        .enum(['floats', 'int8', 'int4'])
        .default('floats')
        .describe('ONNX: how keys and values are kept; integers for ONNX Runtime on the CPU and its genai'),
      products: z
        .enum(['matmulnbits', 'qdq', 'dequantized'])
        .default('matmulnbits')
        .describe(
          "ONNX: products with codes by ONNX Runtime's operator, by operators of ONNX alone, or with weights restored at load",
        ),
      floats: z
        .enum(['F16', 'BF16', 'F32'])
        .default('F16')
        .describe('GGUF and safetensors: type of what is not quantized'),
    })
    .prefault({}),
  reason: z.string().optional().describe('why these steps, where they were recommended'),
  made: z.looseObject({}).optional().describe('versions and hashes of the run that wrote this file'),
});

/** A recipe as its file has it, with steps that are not checked yet. */
export type PlainRecipe = z.input<typeof recipeSchema>;

/** A step by a method of one's own, which is given as the object itself: `step` makes it. */
export interface OwnStep {
  readonly method: Method;
  readonly targets?: readonly string[] | undefined;
  readonly [option: string]: unknown;
}

/** A method by its name, its options, and which matrices it is for: a misspelt one does not compile. */
export type RecipeStep = BuiltInStep | OwnStep;

/** What a recipe says of itself; all that is left out has a default, but for the steps. */
export interface RecipeInput extends Omit<PlainRecipe, 'steps'> {
  readonly steps: readonly RecipeStep[];
}

/**
 * A step by a method of one's own, typed by the schema of its options (see `Named`). A recipe.yaml that a run writes names
 * the method, and can be read where a method of that name is known.
 */
export const step = <M extends Method>(method: M, options?: StepOptions<M>): OwnStep => ({
  ...options,
  method,
});

export type Recipe = Omit<z.output<typeof recipeSchema>, 'steps'> & { readonly steps: readonly Step[] };

/**
 * Fills in defaults and checks every option. In place of a name a step may have a method itself, of somebody's own.
 * @throws LapidaryError naming the option and the nearest known one, or steps in an order that makes no sense
 */
export const parseRecipe = (input: RecipeInput): Recipe => checkRecipe(input);

/** `parseRecipe` for what nobody has typed: YAML, JSON, flags. */
export function checkRecipe(input: unknown, where = 'recipe'): Recipe {
  const { own, named } = withNames(input);
  const { steps: given, ...rest } = parseOptions(recipeSchema, named, where);
  const steps = given.map((step, index) => parseStep(step, own[index], `${where}, steps.${index}`));
  checkOrder(steps, where);
  return { ...rest, steps };
}

/** Methods that stand in a recipe themselves, by the step's index, and the recipe with their names. */
function withNames(input: unknown): {
  readonly own: readonly (Method | undefined)[];
  readonly named: unknown;
} {
  if (!isObject(input) || !Array.isArray(input.steps)) return { own: [], named: input };
  const own = input.steps.map((step: unknown) =>
    isObject(step) && isMethod(step.method) ? step.method : undefined,
  );
  const steps = input.steps.map((step: unknown, index) =>
    own[index] ? { ...(step as object), method: own[index].name } : step,
  );
  return { own, named: { ...input, steps } };
}

const isMethod = (value: unknown): value is Method =>
  isObject(value) &&
  typeof value.name === 'string' &&
  ['linear', 'rewrite', 'train'].includes(String(value.shape)) &&
  // No file holds a function.
  isObject(value.options) &&
  typeof value.options.safeParse === 'function';

function parseStep(
  { method: name, targets, ...rest }: z.output<typeof recipeSchema>['steps'][number],
  own: Method | undefined,
  place: string,
): Step {
  const where = `${place} (${name})`;
  if (own) checkOwnName(own, place);
  const method = own ?? findMethod(name);
  const options = parseOptions(method.options, rest, where) as Options;
  if (compresses(method)) return { method, targets: targets ?? ['blocks'], options };
  if (!targets) return { method, options };
  throw new LapidaryError(
    {
      what: `${name} is for the whole model and has no targets`,
      where,
      fix: 'leave targets out; those of the compressors decide what is compressed',
    },
    ExitCode.usage,
  );
}

/** What a run writes names its methods: one of somebody's own must not go by the name of another. */
function checkOwnName(own: Method, where: string): void {
  const known = methods.find(({ name }) => name === own.name);
  if (own.name.trim() !== '' && (known === undefined || known === own)) return;
  throw new LapidaryError(
    {
      what:
        own.name.trim() === ''
          ? 'a method without a name'
          : `a method of one's own with the name of a built-in one`,
      where,
      expected: 'a name that recipes and reports can tell it by',
      found: shortened(own.name),
      fix: 'give it a name of its own',
    },
    ExitCode.usage,
  );
}

/** The recipe in a file, whole. @throws LapidaryError on a file that cannot be read, or what is no recipe */
export const readRecipe = (path: string): Recipe => checkRecipe(recipeFile(path), path);

/** As it stands in the file. @throws LapidaryError on a file that cannot be read or is not a mapping in YAML, with its line. */
export function recipeFile(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new LapidaryError(
      { what: 'the recipe cannot be read', where: path, found: String(cause), cause },
      ExitCode.usage,
    );
  }
  let value: unknown;
  try {
    value = parseYaml(text, path);
  } catch (cause) {
    if (!(cause instanceof LapidaryError)) throw cause;
    const { what, found } = cause.problem;
    throw notARecipe(path, found ?? what);
  }
  if (isObject(value)) return value;
  throw notARecipe(path, Array.isArray(value) ? 'a list' : value === null ? 'nothing' : shortened(value));
}

function notARecipe(where: string, found: string): LapidaryError {
  const expected = 'a mapping with steps, as a run writes into recipe.yaml';
  return new LapidaryError({ what: 'this is not a recipe', where, expected, found }, ExitCode.usage);
}

/** The recipe as plain data, methods by name: what `checkRecipe` takes, but for somebody's own methods. */
export function plainRecipe({ steps, made, ...rest }: Recipe): Record<string, unknown> {
  return {
    ...rest,
    steps: steps.map((step) => ({ ...inputOf(step), method: step.method.name })),
    ...(made ? { made } : {}),
  };
}

/** A step as `checkRecipe` takes it, its method itself. */
export const inputOf = ({ method, options, ...step }: Step): Record<string, unknown> => ({
  method,
  ...('targets' in step ? { targets: step.targets } : {}),
  ...options,
});

/** The recipe with other steps, checked again. */
export const withSteps = (recipe: Recipe, steps: readonly unknown[]): Recipe =>
  checkRecipe({ ...recipe, steps });

/** The complete recipe as YAML: what `readRecipe` takes. No path to a schema stands in it, which other places do not have. */
export const writeRecipe = (recipe: Recipe): string =>
  `# For completion in editors: npx lapidary schema --help\n${stringify(plainRecipe(recipe))}`;
