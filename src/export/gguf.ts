/** Reads a written GGUF file again and compares its logits with those of the model in memory. */

import { openGguf } from '../io/gguf/read.ts';
import { modelFromGguf } from '../models/gguf.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import type { Verification } from './compare.ts';
import { compareLogits, exact, limitsOf } from './compare.ts';

/**
 * Reads the file as `compress` would: a broken write is found without llama.cpp. Both run in float32.
 * @param ids a sequence of at most the model's context
 * @throws LapidaryError with exit code verification where a logit is not finite or differs beyond tolerance
 */
export async function verifyGguf(path: string, model: Model, ids: ArrayLike<number>): Promise<Verification> {
  const again = modelFromGguf(openGguf(path), path);
  const found = (await logits(again, [ids])).data as Float32Array;
  const expected = (await logits(model, [ids])).data as Float32Array;
  const types = matrixTypes(path);
  const tolerance = types.has('BF16') ? 0.2 : types.has('F16') ? 0.05 : exact;
  const fix = 'do not use this file; write it again, and report it';
  const limits = limitsOf(model, { tolerance });
  return compareLogits({ path, found, expected, ...limits, tokens: ids.length, fix });
}

/** ggml's types of the matrices of a file. */
export function matrixTypes(path: string): Set<string> {
  const matrices = [...openGguf(path).tensors.values()].filter(({ shape }) => shape.length === 2);
  return new Set(matrices.map(({ type }) => type.name));
}
