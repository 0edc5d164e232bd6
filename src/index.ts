/**
 * The public API.
 *
 * ```ts
 * import { compress, generate } from 'lapidary';
 *
 * const report = await compress({ model: './my-model', bits: 4, for: 'transformers.js', calibration: 'text.jsonl' });
 * console.log(report.out, report.compressed.kl);
 * for await (const text of generate(report.out, 'Once upon a time')) process.stdout.write(text);
 * ```
 *
 * Nothing here writes to the terminal: `progress`, `warn` and `say` hear what there is to tell, a `signal` ends what takes
 * long, and what is wrong is a `LapidaryError`, whose `problem` says what, where, what was expected and what to do.
 */

// Compressing
export type { CompressOptions, RecommendOptions, RunOptions, TypesOptions } from './run/asked.ts';
export { compress, compressTypes, dryRunOf, planOf } from './compress.ts';
export { recommend } from './run/asked.ts';
export type { CompressReport, Measures } from './report/report.ts';
export type { Cost } from './evaluate/cost.ts';
export type { LayerRow } from './calibrate/planned.ts';
export type { DryRun, ForeseenMatrix } from './plan/dry-run.ts';
export type { Plan } from './plan/plan.ts';
export type { EngineName } from './formats/format.ts';
export { engineNames } from './formats/engines.ts';
export type { ImatrixOptions, WrittenImatrix } from './run/imatrix.ts';
export { imatrix } from './run/imatrix.ts';
export type { Imatrix, ImatrixEntry } from './io/imatrix/imatrix.ts';
export { readImatrix, writeImatrix } from './io/imatrix/imatrix.ts';

// Recipes and methods
export type { OwnStep, Recipe, RecipeInput, RecipeStep } from './recipe/recipe.ts';
export { parseRecipe, readRecipe, step, writeRecipe } from './recipe/recipe.ts';
export type { OptionInfo } from './recipe/options.ts';
export { describeOptions } from './recipe/options.ts';
export type { LinearMethod, Method, Named, StepOf } from './contract/method.ts';
export type { Matrix, Statistic } from './contract/statistic.ts';
export { methods } from './methods/index.ts';

// Measuring
export type { Comparison, Measurement, MeasureOptions } from './measure/measure.ts';
export { compare, costOf, measure as evaluate } from './measure/measure.ts';
export type { EvaluationDetails } from './evaluate/details.ts';
export type { Estimate, Evaluation } from './evaluate/evaluate.ts';
export type { Speed } from './evaluate/speed.ts';
export { measureSpeed } from './evaluate/speed.ts';

// Reports
export type { ReportData } from './report/data.ts';
export { parseReport } from './report/data.ts';
export { reportHtml as reportPage } from './report/html.ts';

// Models, and text from them
export type {
  InspectedLayer,
  InspectedTensor,
  InspectedType,
  Inspection,
  MadeBy,
} from './inspect/inspect.ts';
export { inspect } from './inspect/inspect.ts';
export type { GenerateOptions, Generation, Prompt } from './generate/generate.ts';
export type { GeneratorOptions, TextGenerator } from './generate/generator.ts';
export { generate, openGenerator } from './generate/generator.ts';
export type { Generating } from './generate/generating.ts';
export type { Pushed, PushOptions } from './share/push.ts';
export { push } from './share/push.ts';
export type { ChatMessage } from './tokenizer/chat.ts';
export type { Tokenizer } from './tokenizer/tokenizer.ts';
export type { Model } from './models/model.ts';
export type { Opened, OpenedCheckpoint, OpenedFile, OpenedWeights } from './open.ts';
export { openModel, openWeights } from './open.ts';

// What all have in common
export type { Problem } from './base/errors.ts';
export { ExitCode, LapidaryError } from './base/errors.ts';
export type { Progress, ProgressEvent } from './base/progress.ts';
