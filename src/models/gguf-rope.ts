/**
 * Rotary scaling out of GGUF. Linear scaling is a key; Llama 3's is stored as its outcome, one divisor for each pair
 * (rope_freqs), from which the parameters of config.json are found again.
 */

import { LapidaryError } from '../base/errors.ts';
import { numberAt, textAt, wrongKey } from '../io/gguf/metadata.ts';
import type { GgufMetadata } from '../io/gguf/types.ts';
import { frequenciesOf } from './rope.ts';

interface Llama3 {
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalContext: number;
}

/** `rope_scaling` of config.json, where there is any. */
export function ropeScaling(
  metadata: GgufMetadata,
  architecture: string,
  factors: Float32Array | undefined,
  theta: number,
  headSize: number,
): Readonly<Record<string, unknown>> | undefined {
  if (factors?.some((factor) => factor !== 1)) {
    const found = llama3(factors, theta, headSize);
    return {
      rope_type: 'llama3',
      factor: found.factor,
      low_freq_factor: found.lowFrequencyFactor,
      high_freq_factor: found.highFrequencyFactor,
      original_max_position_embeddings: found.originalContext,
    };
  }
  const key = `${architecture}.rope.scaling.type`;
  const type = textAt(metadata, key) ?? 'none';
  const factor =
    numberAt(metadata, `${architecture}.rope.scaling.factor`) ??
    numberAt(metadata, `${architecture}.rope.scale_linear`);
  if (type === 'linear' || (type === 'none' && factor !== undefined && factor !== 1))
    return factor === undefined || factor === 1 ? undefined : { rope_type: 'linear', factor };
  if (type === 'none') return undefined;
  throw wrongKey(key, 'none or linear', metadata.get(key));
}

/** Divisors of each pair's frequency that these parameters give: see `frequenciesOf`. */
export function llama3Factors(scaling: Llama3, theta: number, headSize: number): Float32Array {
  const scaled = frequenciesOf({ theta, scaling: { type: 'llama3', ...scaling } }, headSize).radians;
  return Float32Array.from(frequenciesOf({ theta }, headSize).radians, (plain, i) => plain / scaled[i]);
}

/**
 * The parameters behind divisors. Between the bounds, (1/f - 1/F) / (1 - 1/F) is a line over the frequency; the line
 * and its zero give everything but a common scale of context and bounds, which is chosen so that the lower bound is 1,
 * as in every Llama.
 */
function llama3(factors: Float32Array, theta: number, headSize: number): Llama3 {
  const factor = Number(Math.max(...factors).toPrecision(7));
  const known = { factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192 };
  const candidates = [known, ...fitted(factors, factor, theta, headSize)];
  for (const candidate of candidates) {
    const again = llama3Factors(candidate, theta, headSize);
    if (again.length === factors.length && again.every((value, i) => Math.abs(value / factors[i] - 1) < 1e-4))
      return candidate;
  }
  throw new LapidaryError({
    what: 'rotary frequencies that are not scaled as in Llama 3',
    where: 'rope_freqs.weight',
    expected: 'divisors that a factor, two bounds and an original context give',
    found: `${factors.length} divisors up to ${factor}`,
  });
}

function fitted(factors: Float32Array, factor: number, theta: number, headSize: number): Llama3[] {
  const turns = frequenciesOf({ theta }, headSize).radians.map((frequency) => frequency / (2 * Math.PI));
  const blends = Array.from(factors, (value) => (1 / value - 1 / factor) / (1 - 1 / factor));
  const between = blends.map((_, i) => i).filter((i) => blends[i] > 1e-4 && blends[i] < 1 - 1e-4);
  const [first, last] = [between[0], between.at(-1)];
  if (first === undefined || last === undefined) {
    // Nothing between: any bounds that part the slowed from the others.
    const slowed = turns.filter((_, i) => blends[i] <= 1e-4);
    const free = turns.filter((_, i) => blends[i] > 1e-4);
    const [high, low] = [Math.min(...free, 1), Math.max(...slowed)];
    return [scaled(factor, 1 / Math.sqrt(low * high), 0.999, 1.001)];
  }
  if (first === last) return [scaled(factor, (1 + 3 * blends[first]) / turns[first], 1, 4)];
  const slope = (blends[first] - blends[last]) / (turns[first] - turns[last]);
  const zero = turns[first] - blends[first] / slope;
  return [scaled(factor, 1 / zero, 1, 1 + 1 / (slope * zero))];
}

/** The same, with a whole number of positions. */
function scaled(factor: number, context: number, low: number, high: number): Llama3 {
  const originalContext = Math.max(1, Math.round(context));
  const scale = originalContext / context;
  return { factor, lowFrequencyFactor: low * scale, highFrequencyFactor: high * scale, originalContext };
}
