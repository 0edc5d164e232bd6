/**
 * Nothing is claimed that was not checked: the written file is loaded again as its users load it, and its logits are
 * compared with those of the model in memory, of every head, which runs block by block in plain float32 operators.
 */

import type { FileRunner } from '../evaluate/file.ts';
import { openFile } from '../evaluate/file.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import type { Verification } from './compare.ts';
import { compareLogits, exact, limitsOf } from './compare.ts';
import type { ExportOptions } from './graph.ts';
import { exitOutput } from './graph.ts';
import type { ExportedFile } from './transformers.ts';

export type { Verification } from './compare.ts';

/** Tokens that are fed one by one behind the others, so that both uses of the cache are checked. */
const decoded = 4;

/**
 * @param ids a sequence of at least 2 tokens, and at most the model's context
 * @param options what the file was written with, and how its products are computed: less precise arithmetic may differ more
 * @returns the comparison of the head that differs most
 * @throws LapidaryError with exit code verification where a logit is not finite or differs beyond tolerance
 */
export async function verifyExport(
  path: string,
  model: Model,
  ids: ArrayLike<number>,
  options: ExportOptions & SessionOptions & Partial<Pick<ExportedFile, 'levels'>> = {},
): Promise<Verification> {
  const { activations, accuracyLevel = 0, levels = [accuracyLevel], cache, products, ...session } = options;
  const rounded =
    levels.includes(4) ||
    cache !== undefined ||
    products === 'qdq' ||
    [...model.matrices.values()].some(({ inputBits }) => inputBits);
  // Products whose inputs are split in two are nearly exact.
  const split = [...model.matrices.values()].some(({ bits }) => bits < 16 && bits !== 4);
  const tolerance = toleranceOf({ rounded, split }, activations);
  const limits = limitsOf(model, cache?.bits === 4 ? coarse : { tolerance });
  const fix = 'do not use this file; try float32 activations and accuracy level 0, and report it';
  const { exits = [] } = model.config;
  const runner = await openFile(path, { ...session, others: exits.map(exitOutput) });
  try {
    const [last, ...others] = await logitsOfFile(runner, Int32Array.from(ids), exits);
    const compared = async (found: Float32Array, exit?: number) => {
      const expected = (await logits(model, [ids], { exit })).data as Float32Array;
      return compareLogits({ path, found, expected, ...limits, tokens: ids.length, fix });
    };
    let worst = await compared(last);
    for (const [index, exit] of exits.entries()) {
      const own = await compared(others[index], exit);
      if (own.worst > worst.worst) worst = own;
    }
    return worst;
  } finally {
    await runner.close();
  }
}

/** Of a cache with four bits: seen on models up to 135M parameters, 0.84 of the worst token and 0.3 of half of them. */
const coarse = { tolerance: 2, typicalTolerance: 0.5 };

/**
 * Seen on models of 0.1 to 0.3 million parameters: float32 1.4e-6, float16 0.005, 8-bit activations 0.05, since what comes
 * near the middle of two codes may be rounded to either. A wrong graph differs by about one.
 * @param inputs whether those of products are rounded to a few bits, or may be split in two that are (1.1e-4)
 */
function toleranceOf(
  inputs: { readonly rounded: boolean; readonly split: boolean },
  activations: ExportOptions['activations'],
): number {
  if (inputs.rounded) return 0.3;
  if (activations === 'float16') return 0.05;
  return inputs.split ? 0.01 : exact;
}

/** [tokens, vocabulary], of the last head and then of the exits. */
async function logitsOfFile(
  runner: FileRunner,
  ids: Int32Array,
  exits: readonly number[],
): Promise<readonly Float32Array[]> {
  const prompt = Math.max(1, ids.length - decoded);
  const all = [undefined, ...exits].map(() => new Float32Array(ids.length * runner.vocabulary));
  let cache = runner.empty();
  for (let past = 0; past < ids.length;) {
    const count = past === 0 ? prompt : 1;
    const step = await runner.step(ids.subarray(past, past + count), past, cache, 0);
    cache = step.cache;
    const heads = [step.logits, ...exits.map((exit) => step.others[exitOutput(exit)])];
    for (const [index, { data }] of heads.entries())
      all[index].set(data as Float32Array, past * runner.vocabulary);
    past += count;
  }
  return all;
}
