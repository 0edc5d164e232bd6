/**
 * Nothing is claimed that was not checked: the written file is loaded again as its users load it, and its logits are
 * compared with those of the model in memory, which runs block by block in plain float32 operators.
 */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { FileRunner } from '../evaluate/file.ts';
import { openFile } from '../evaluate/file.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import type { ExportOptions } from './graph.ts';

export interface Verification {
  /** Largest difference of a logit. */
  readonly maxDifference: number;
  /** Of the worst token: root mean square difference of its logits, in spreads. */
  readonly worst: number;
  /** Standard deviation of the logits in memory: what a difference is measured by. */
  readonly spread: number;
  /** What `worst` may be. */
  readonly tolerance: number;
  readonly tokens: number;
}

/** Tokens that are fed one by one behind the others, so that both uses of the cache are checked. */
const decoded = 4;

/**
 * @param ids a sequence of at least 2 tokens, and at most the model's context
 * @param options what the file was written with: less precise arithmetic may differ more
 * @throws LapidaryError with exit code verification where a logit is not finite or differs beyond tolerance
 */
export async function verifyExport(
  path: string,
  model: Model,
  ids: ArrayLike<number>,
  options: ExportOptions & SessionOptions = {},
): Promise<Verification> {
  const { activations, accuracyLevel, ...session } = options;
  const tolerance = toleranceOf({ activations, accuracyLevel });
  const expected = (await logits(model, [ids])).data as Float32Array;
  const runner = await openFile(path, session);
  try {
    const found = await logitsOfFile(runner, Int32Array.from(ids));
    return compare(path, found, expected, tolerance, ids.length);
  } finally {
    await runner.close();
  }
}

/**
 * Seen on models of 0.1 to 0.3 million parameters: float32 1.4e-6, float16 0.005, 8-bit activations 0.05. A wrong graph
 * differs by about one.
 */
function toleranceOf({ activations, accuracyLevel }: ExportOptions): number {
  if (accuracyLevel === 4) return 0.3;
  return activations === 'float16' ? 0.05 : 1e-3;
}

async function logitsOfFile(runner: FileRunner, ids: Int32Array): Promise<Float32Array> {
  const prompt = Math.max(1, ids.length - decoded);
  const all = new Float32Array(ids.length * runner.vocabulary);
  let cache = runner.empty();
  for (let past = 0; past < ids.length;) {
    const count = past === 0 ? prompt : 1;
    const step = await runner.step(ids.subarray(past, past + count), past, cache, 0);
    cache = step.cache;
    all.set(step.logits.data as Float32Array, past * runner.vocabulary);
    past += count;
  }
  return all;
}

function compare(
  path: string,
  found: Float32Array,
  expected: Float32Array,
  tolerance: number,
  tokens: number,
): Verification {
  const vocabulary = expected.length / tokens;
  let maxDifference = 0;
  let worstSquares = 0;
  let [sum, squares] = [0, 0];
  for (let token = 0; token < tokens; token++) {
    let differences = 0;
    for (let i = token * vocabulary; i < (token + 1) * vocabulary; i++) {
      if (!Number.isFinite(found[i]) || !Number.isFinite(expected[i])) {
        throw failure(
          path,
          'a logit is not finite',
          `${expected[i]} (in memory)`,
          `${found[i]} (in the file)`,
        );
      }
      const difference = found[i] - expected[i];
      differences += difference ** 2;
      maxDifference = Math.max(maxDifference, Math.abs(difference));
      sum += expected[i];
      squares += expected[i] ** 2;
    }
    worstSquares = Math.max(worstSquares, differences / vocabulary);
  }
  const spread = Math.sqrt(Math.max(0, squares / expected.length - (sum / expected.length) ** 2));
  const worst = Math.sqrt(worstSquares) / spread;
  if (!(worst <= tolerance)) {
    const most = `logits of a token that differ by at most ${tolerance} of their spread, ${spread.toPrecision(3)}`;
    const much = `${worst.toPrecision(3)} of it, ${maxDifference.toPrecision(3)} at most`;
    throw failure(path, 'the written file does not compute what the model does', most, much);
  }
  return { maxDifference, worst, spread, tolerance, tokens };
}

function failure(path: string, what: string, expected: string, found: string): LapidaryError {
  const fix = 'do not use this file; try float32 activations and accuracy level 0, and report it';
  return new LapidaryError({ what, where: path, expected, found, fix }, ExitCode.verification);
}
