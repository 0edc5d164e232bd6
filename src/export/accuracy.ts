/**
 * How precisely a written file multiplies. MatMulNBits takes float or 8-bit integer activations on CPUs. The latter are
 * up to twice as fast, and flip near-ties on models with massive activations (onnxruntime#29849); so both are written and
 * measured. Speed has no say: the same job must give the same bytes.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { AccuracyLevel } from '../encodings/encoding.ts';
import type { Evaluation } from '../evaluate/evaluate.ts';
import type { Model } from '../models/model.ts';
import { exportTransformers } from './transformers.ts';

export interface AccuracyChoice {
  readonly level: AccuracyLevel;
  /** Mean KL divergence by level, where both were measured. */
  readonly levels?: Readonly<Record<AccuracyLevel, number>>;
  /** Of the chosen level. */
  readonly evaluation?: Evaluation;
}

/**
 * Integer activations are taken where they cost next to nothing: this factor of divergence, or these nats. The factor alone
 * would hold a model that loses nothing else to nothing at all.
 */
const worthwhile = { factor: 1.1, nats: 0.0002 };

/**
 * Writes a float32 file of each level into `scratch`, one after the other, and has it measured.
 * @param evaluate with divergence from the original
 */
export async function chooseAccuracy(
  model: Model,
  scratch: string,
  evaluate: (file: string, level: AccuracyLevel) => Promise<Evaluation>,
): Promise<AccuracyChoice> {
  const measured = async (level: AccuracyLevel) => {
    const folder = join(scratch, `accuracy-${level}`);
    const [file] = exportTransformers(model, folder, { files: [{ accuracyLevel: level }] });
    const evaluation = await evaluate(join(folder, file.path), level);
    rmSync(folder, { recursive: true });
    return { evaluation, levels: file.levels };
  };
  const float = await measured(0);
  // Without products with codes both files would be the same.
  if (float.levels.length === 0) return { level: 0, evaluation: float.evaluation };
  const evaluations = { 0: float.evaluation, 4: (await measured(4)).evaluation };
  const levels = { 0: evaluations[0].kl!.mean, 4: evaluations[4].kl!.mean };
  const level = levels[4] <= Math.max(worthwhile.factor * levels[0], levels[0] + worthwhile.nats) ? 4 : 0;
  return { level, levels, evaluation: evaluations[level] };
}
