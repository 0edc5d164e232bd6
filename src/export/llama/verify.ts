/** A written GGUF file is loaded in llama.cpp, and its logits are compared with those of the model in memory. */

import { ExitCode, LapidaryError } from '../../base/errors.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import type { Verification } from '../compare.ts';
import { compareLogits } from '../compare.ts';
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
  const tolerance = toleranceOf(path);
  const expected = (await logits(model, [ids])).data as Float32Array;
  const question = { path, sequences: [Array.from(ids)] };
  const [found] = await askLlama(entry, 'logits', question, { threads, signal }).catch((error) => {
    throw error instanceof LlamaFailure ? refused(path, engine, error.message) : error;
  });
  const fix = 'do not use this file; report it';
  return { engine, ...compareLogits({ path, found, expected, tolerance, tokens: ids.length, fix }) };
}

function toleranceOf(path: string): number {
  const types = matrixTypes(path);
  types.delete('F32');
  if (types.size === 0) return 0.02;
  types.delete('F16');
  return types.size === 0 ? 0.05 : 0.3;
}

function refused(path: string, engine: string, found: string): LapidaryError {
  const what = 'llama.cpp does not run the written file';
  const fix = 'do not use this file; report it';
  return new LapidaryError(
    { what, where: path, expected: `logits from ${engine}`, found, fix },
    ExitCode.verification,
  );
}
