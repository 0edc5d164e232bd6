/**
 * The public API.
 *
 * ```ts
 * import { compress, parseRecipe } from 'lapidary';
 *
 * const recipe = parseRecipe({ model: './my-model', steps: [{ method: 'gptq', bits: 4 }], calibration: { data: 'text.jsonl' } });
 * const report = await compress({ recipe, out: './small' });
 * console.log(report.compressed.kl);
 * ```
 */

export type { Problem } from './base/errors.ts';
export { ExitCode, LapidaryError } from './base/errors.ts';
export type { Progress, ProgressEvent } from './base/progress.ts';
export type { LayerRow } from './calibrate/planned.ts';
export type { CompressOptions } from './compress.ts';
export type { ReportData } from './report/data.ts';
export type { CompressReport, Measures } from './report/report.ts';
export { compress, planOf } from './compress.ts';
export type { Cost } from './evaluate/cost.ts';
export type { EvaluationDetails } from './evaluate/details.ts';
export type { Estimate, Evaluation } from './evaluate/evaluate.ts';
export type { Speed } from './evaluate/speed.ts';
export { measureSpeed } from './evaluate/speed.ts';
export type { Recommendation, Wanted } from './formats/recommend.ts';
export { recommend } from './formats/index.ts';
export type { GenerateOptions, Generation, Prompt } from './generate/generate.ts';
export { generate } from './generate/generate.ts';
export type {
  InspectedLayer,
  InspectedTensor,
  InspectedType,
  Inspection,
  MadeBy,
} from './inspect/inspect.ts';
export { inspect } from './inspect/inspect.ts';
export type { ImatrixOptions, WrittenImatrix } from './run/imatrix.ts';
export { imatrix } from './run/imatrix.ts';
export type { Imatrix, ImatrixEntry } from './io/imatrix/imatrix.ts';
export { readImatrix, writeImatrix } from './io/imatrix/imatrix.ts';
export type { Measurement, MeasureOptions } from './measure/measure.ts';
export { costOf, measure as evaluate, measureAll as compare } from './measure/measure.ts';
export type { LinearMethod, Matrix, Method, Statistic } from './methods/contract.ts';
export { methods } from './methods/index.ts';
export type { Model } from './models/model.ts';
export type { Opened, OpenedCheckpoint, OpenedFile, OpenedWeights } from './open.ts';
export { openModel, openWeights } from './open.ts';
export type { Plan } from './plan/plan.ts';
export type { OptionInfo } from './recipe/options.ts';
export { describeOptions } from './recipe/options.ts';
export type { Recipe, RecipeInput } from './recipe/recipe.ts';
export { parseRecipe, readRecipe, writeRecipe } from './recipe/recipe.ts';
export type { ChatMessage } from './tokenizer/chat.ts';
export type { Tokenizer } from './tokenizer/tokenizer.ts';
