/** The next token from its logits: the most likely one, or one drawn. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';

export interface SamplingOptions {
  /** 0 takes the most likely token each time; above, logits are divided by it before one is drawn. */
  readonly temperature?: number | undefined;
  /** Draws among the k most likely. */
  readonly topK?: number | undefined;
  /** Draws among the most likely that together have this probability (nucleus sampling, Holtzman et al. 2020). */
  readonly topP?: number | undefined;
  readonly seed?: number | undefined;
}

/** Called once for each token, in order: the same seed draws the same. */
export type Sampler = (logits: Float32Array) => number;

/** @throws LapidaryError on an option out of range; the sampler throws one where no logit is finite */
export function sampler({ temperature = 0, topK, topP = 1, seed = 0 }: SamplingOptions): Sampler {
  checkOption(
    'temperature',
    temperature,
    Number.isFinite(temperature) && temperature >= 0,
    'a number from 0',
  );
  checkOption(
    'top-k',
    topK,
    topK === undefined || (Number.isSafeInteger(topK) && topK >= 1),
    'a whole number from 1',
  );
  checkOption('top-p', topP, topP > 0 && topP <= 1, 'above 0, at most 1');
  if (temperature === 0) return mostLikely;
  const { uniform } = random(seed);
  return (logits) => draw(logits, temperature, topK ?? logits.length, topP, uniform());
}

/** @throws LapidaryError (usage) that names the option where its value does not fit */
export function checkOption(where: string, value: unknown, fits: boolean, expected: string): void {
  if (fits) return;
  throw new LapidaryError(
    { what: 'a value out of range', where, expected, found: `${value}` },
    ExitCode.usage,
  );
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  let broken = false;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] > logits[best]) best = id;
    broken ||= Number.isNaN(logits[id]);
  }
  if (!broken && Number.isFinite(logits[best])) return best;
  throw new LapidaryError({
    what: 'the model gave logits that are not finite',
    found: broken ? 'NaN' : String(logits[best]),
    fix: 'check its weights with lapidary inspect',
  });
}

/** @param at where in the cumulated probabilities of the kept tokens, 0 to 1 */
function draw(logits: Float32Array, temperature: number, topK: number, topP: number, at: number): number {
  const top = logits[mostLikely(logits)];
  // A vocabulary for each token: loops, where callbacks take several times as long.
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let id = 0; id < logits.length; id++)
    total += weights[id] = Math.exp((logits[id] - top) / temperature);
  if (topK >= logits.length && topP >= 1) return placeOf(at * total, weights);
  const kept = Uint32Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a]);
  let [count, mass] = [0, 0];
  while (count < Math.min(topK, kept.length) && (count === 0 || mass < topP * total))
    mass += weights[kept[count++]];
  const most = Float64Array.from(kept.subarray(0, count), (id) => weights[id]);
  return kept[placeOf(at * mass, most)];
}

/** Of the weight in whose share a point of their sum lies. */
function placeOf(point: number, weights: Float64Array): number {
  let rest = point;
  for (let place = 0; place < weights.length; place++) {
    rest -= weights[place];
    if (rest < 0) return place;
  }
  return weights.length - 1;
}
