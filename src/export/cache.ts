/**
 * Scales for a key/value cache in integers, measured on text: from the largest key and value of every channel, and for 4
 * bits the share of it that leaves the least squared error.
 */

import { elementCount, stored } from '../base/tensor.ts';
import { openFile } from '../evaluate/file.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { IntegerCache } from './attention.ts';
import { exportGraph } from './graph.ts';

/** Shares of the largest size that four bits may reach to: cutting it off can cost less than a coarser grid. */
const reaches = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4];

export interface CacheOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs the model as it is exported, whose cache holds keys after they are rotated, as integers will be.
 * @param sequences token ids, each at most the model's context; at least one
 * @param bits 8, or 4
 */
export async function measureCache(
  model: Model,
  sequences: readonly Int32Array[],
  bits: IntegerCache['bits'],
  { signal, ...session }: CacheOptions = {},
): Promise<IntegerCache> {
  const { layers } = model.config;
  const runner = await openFile(exportGraph(model), session);
  const attending = [...layers.keys()].filter((layer) => layers[layer].heads > 0);
  const names = attending.flatMap((layer) => [
    `past_key_values.${layer}.key`,
    `past_key_values.${layer}.value`,
  ]);
  const observe = async (use: (seen: Tensor, index: number) => void) => {
    for (const sequence of sequences) {
      signal?.throwIfAborted();
      const { cache } = await runner.step(sequence, 0, runner.empty(), 1);
      for (const [index, name] of names.entries()) use(cache[name], index);
    }
  };
  const shapes = names.map((_, index) => {
    const { keyValueHeads, headSize } = layers[attending[index >> 1]];
    return [1, keyValueHeads, 1, headSize];
  });
  const channels = shapes.map((shape) => new Float32Array(elementCount(shape)));
  try {
    await observe((seen, index) => raise(channels[index], seen));
    const top = 2 ** (bits - 1) - 1;
    // A channel that was never used needs a scale all the same.
    const widest = channels.map((peaks) => peaks.map((peak) => peak / top || 1));
    const scales = bits === 4 ? await leastSquares(widest, top, observe) : widest;
    const kept = (index: number) => stored('float32', shapes[index], scales[index]);
    return {
      bits,
      scales: layers.map((_, layer) => {
        const at = 2 * attending.indexOf(layer);
        return at < 0 ? undefined : { key: kept(at), value: kept(at + 1) };
      }),
    };
  } finally {
    await runner.close();
  }
}

/** Of each channel the scale with the least squared error, of shares of the widest. */
async function leastSquares(
  widest: readonly Float32Array[],
  top: number,
  observe: (use: (seen: Tensor, index: number) => void) => Promise<void>,
): Promise<readonly Float32Array[]> {
  const candidates = widest.map((scales) =>
    reaches.map((reach) => ({
      scales: scales.map((scale) => scale * reach),
      errors: new Float64Array(scales.length),
    })),
  );
  await observe((seen, index) => {
    for (const { scales, errors } of candidates[index]) addErrors(errors, seen, scales, top);
  });
  return candidates.map(([first, ...others]) =>
    first.scales.map((scale, at) => {
      let best = { scale, error: first.errors[at] };
      for (const { scales, errors } of others)
        if (errors[at] < best.error) best = { scale: scales[at], error: errors[at] };
      return best.scale;
    }),
  );
}

/** Of a cache [1, heads, tokens, size] one head of one token after the other, with its first channel. */
function* vectorsOf({ data, dims }: Tensor) {
  const [, heads, tokens, size] = dims;
  for (let head = 0, at = 0; head < heads; head++)
    for (let token = 0; token < tokens; token++, at += size)
      yield { first: head * size, values: (data as Float32Array).subarray(at, at + size) };
}

/** Largest sizes of channels, with those of a cache among them. */
function raise(peaks: Float32Array, seen: Tensor): void {
  for (const { first, values } of vectorsOf(seen))
    for (let i = 0; i < values.length; i++)
      peaks[first + i] = Math.max(peaks[first + i], Math.abs(values[i]));
}

/** Squared errors of channels, with those of a cache added. */
function addErrors(errors: Float64Array, seen: Tensor, scales: Float32Array, top: number): void {
  for (const { first, values } of vectorsOf(seen))
    for (let i = 0; i < values.length; i++) {
      const scale = scales[first + i];
      const code = Math.min(Math.max(Math.round(values[i] / scale), -top - 1), top);
      errors[first + i] += (values[i] - code * scale) ** 2;
    }
}

/** Bytes of keys and values that a token takes, with a cache in so many bits. */
export const cacheBytes = ({ config: { layers } }: Model, bits: 4 | 8 | 16 | 32): number =>
  layers.reduce((sum, { keyValueHeads, headSize }) => sum + (2 * keyValueHeads * headSize * bits) / 8, 0);
