/**
 * How precisely a written file multiplies. MatMulNBits takes float or 8-bit integer activations on CPUs. The latter are
 * up to twice as fast, and flip near-ties on models with massive activations (onnxruntime#29849); so both are written and
 * measured. Speed has no say: the same job must give the same bytes.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { AccuracyLevel } from '../encodings/encoding.ts';
import type { Evaluation } from '../evaluate/evaluate.ts';
import type { Taken } from '../evaluate/rivals.ts';
import type { Model } from '../models/model.ts';
import { exportTransformers } from './transformers.ts';

export interface AccuracyChoice {
  readonly level: AccuracyLevel;
  /** Mean KL divergence by level, on the part of the text that decided, where both were measured. */
  readonly levels?: Readonly<Record<AccuracyLevel, number>>;
  /** Of the chosen level. */
  readonly evaluation?: Evaluation;
}

/**
 * Integer activations are taken where they cost next to nothing: this factor of divergence, or these nats. The factor alone
 * would hold a model that loses nothing else to nothing at all.
 */
const worthwhile = { factor: 1.1, nats: 0.0002 };

/** Whether both levels are measured, where there is text: one is not asked for, and it is what the file will have. */
export const measuresLevels = ({ format, accuracyLevel, activations, cache, products }: Asked): boolean =>
  format === 'onnx' &&
  accuracyLevel === 'auto' &&
  activations === 'float32' &&
  cache === 'floats' &&
  products === 'matmulnbits';

interface Asked {
  readonly format: string;
  readonly accuracyLevel: AccuracyLevel | 'auto';
  readonly activations: string;
  readonly cache: string;
  readonly products: string;
}

/** Those that are tried, the more precise one first. */
const tried = [0, 4] as const satisfies readonly AccuracyLevel[];

/**
 * Writes a float32 file of each level into `scratch` and has them measured.
 * @param evaluate files with their divergence from the original, of which it takes the one that `choose` says
 */
export async function chooseAccuracy(
  model: Model,
  scratch: string,
  evaluate: (files: readonly string[], choose: (kl: readonly number[]) => number) => Promise<Taken>,
): Promise<AccuracyChoice> {
  const folders = tried.map((level) => join(scratch, `accuracy-${level}`));
  const write = (index: number) =>
    exportTransformers(model, folders[index], { files: [{ accuracyLevel: tried[index] }] })[0];
  try {
    const float = write(0);
    // Without products with codes both files would be the same.
    const files = float.levels.length === 0 ? [float] : [float, write(1)];
    const paths = files.map(({ path }, index) => join(folders[index], path));
    const { index, kl, evaluation } = await evaluate(paths, chosen);
    const levels = kl.length > 1 ? { 0: kl[0], 4: kl[1] } : undefined;
    return { level: tried[index], evaluation, ...(levels ? { levels } : {}) };
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  }
}

const chosen = ([float, integer]: readonly number[]): number =>
  integer !== undefined && integer <= Math.max(worthwhile.factor * float, float + worthwhile.nats) ? 1 : 0;
