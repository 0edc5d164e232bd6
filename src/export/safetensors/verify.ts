/** Compares the logits of a written folder with those of the model in memory. */

import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import type { Verification } from '../compare.ts';
import { compareLogits } from '../compare.ts';
import type { FloatName } from './folder.ts';

/** What floats that are not quantized lose when they are rounded; seen on small models: 0.005, 0.05. */
const tolerances = { float32: 1e-3, float16: 0.05, bfloat16: 0.2 };
/** Inputs that are rounded flip to the next code here and there. */
const roundedTolerance = 0.3;

/**
 * Both run in float32.
 * @param again the model that the folder was opened as
 * @param ids a sequence of at most the model's context
 * @throws LapidaryError with exit code verification where a logit is not finite or differs beyond tolerance
 */
export async function verifyCheckpoint(
  again: Model,
  model: Model,
  ids: ArrayLike<number>,
  floats: FloatName,
): Promise<Verification> {
  const found = (await logits(again, [ids])).data as Float32Array;
  const expected = (await logits(model, [ids])).data as Float32Array;
  const rounds = [...model.matrices.values()].some(({ inputBits }) => inputBits !== undefined);
  const tolerance = rounds ? roundedTolerance : tolerances[floats];
  const fix = 'do not use this folder; write it again, and report it';
  return compareLogits({ path: again.source, found, expected, tolerance, tokens: ids.length, fix });
}
