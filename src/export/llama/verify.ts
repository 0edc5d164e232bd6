/** Loads a written GGUF file in llama.cpp and compares its logits with those of the model in memory. */

import { ExitCode, LapidaryError } from '../../base/errors.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import type { Limits, Verification } from '../compare.ts';
import { compareLogits, limitsOf } from '../compare.ts';
import { matrixTypes } from '../gguf.ts';
import type { Llama } from './find.ts';
import type { LlamaOptions } from './process.ts';
import { askLlama, LlamaFailure } from './process.ts';

export interface LlamaCheck extends Verification {
  /** What ran the file, with versions. */
  readonly engine: string;
}

/**
 * @param ids a sequence of at most the model's context
 * @throws LapidaryError with exit code verification where llama.cpp does not load the file, a logit is not finite or differs
 *   beyond tolerance
 */
export async function verifyLlama(
  { entry, engine }: Llama,
  path: string,
  model: Model,
  ids: ArrayLike<number>,
  { threads, signal }: LlamaOptions = {},
): Promise<LlamaCheck> {
  const limits = limitsOf(model, tolerancesOf(path));
  const expected = (await logits(model, [ids])).data as Float32Array;
  const question = { path, sequences: [Array.from(ids)] };
  const [found] = await askLlama(entry, 'logits', question, { threads, signal }).catch((error) => {
    throw error instanceof LlamaFailure ? refused(path, engine, error.message) : error;
  });
  const fix =
    'do not use this file; take more bits, since errors grow in a model that lost much, or report it';
  return { engine, ...compareLogits({ path, found, expected, ...limits, tokens: ids.length, fix }) };
}

/**
 * llama.cpp keeps keys and values in float16 and rounds the inputs of a matrix: to the type of 16-bit floats, to 8-bit
 * integers for blocks, up to 256 of them to a scale. Models with massive activations suffer from the latter. Seen of the
 * worst token, on models of 0.1 to 135 million parameters: float32 0.002, float16 0.004, bfloat16 0.022, blocks 0.01 to
 * 0.25, their median token 0.01 to 0.085. Rows of query and key in the wrong order differ by 0.7 to 2.9, and by 0.35 to
 * 1.2 in the median.
 */
function tolerancesOf(path: string): Limits {
  const types = matrixTypes(path);
  const [coarsest] = (['F32', 'F16', 'BF16'] as const).filter((type) => types.delete(type)).slice(-1);
  if (types.size > 0) return { tolerance: 1, typicalTolerance: 0.25 };
  return { tolerance: { F32: 0.02, F16: 0.05, BF16: 0.2 }[coarsest ?? 'F32'] };
}

function refused(path: string, engine: string, found: string): LapidaryError {
  const what = 'llama.cpp does not run the written file';
  const fix = 'do not use this file; report it';
  return new LapidaryError(
    { what, where: path, expected: `logits from ${engine}`, found, fix },
    ExitCode.verification,
  );
}
