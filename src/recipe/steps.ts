/** A step of a recipe, checked: a method with its options, and for a compressor the matrices that it is for. */

import type {
  BlockTraining,
  Compressor,
  Method,
  ModelTraining,
  Rewrite,
  StepInput,
} from '../contract/method.ts';

/** As a recipe's file has it. */
export type WrittenStep = StepInput & { readonly targets?: readonly string[] | undefined };

/** Checked by the method's own schema, defaults filled in. */
export type StepOptions = Readonly<Record<string, unknown>>;

export interface CompressStep {
  readonly method: Compressor;
  /** Which matrices it is for: see calibrate/select.ts. */
  readonly targets: readonly string[];
  readonly options: StepOptions;
}
/** Where it stands among others: see stages.ts. */
export interface ModelStep {
  readonly method: Rewrite | BlockTraining | ModelTraining;
  readonly options: StepOptions;
}
export type Step = CompressStep | ModelStep;

export const isCompression = (step: Step): step is CompressStep => 'targets' in step;

/** Whether a method is for single matrices or blocks, so that a step of it has targets. */
export const compresses = (method: Method): method is Compressor =>
  method.shape === 'linear' || (method.shape === 'train' && method.scope === 'block');

/** Rewrites, the main compressor, trainings: as `--method` names them. */
export function methodsOf(steps: readonly Step[]): string[] {
  const main = steps.find(isCompression);
  return steps.flatMap((step) => (step === main || !isCompression(step) ? step.method.name : []));
}
