/** Scales for a key/value cache in integers, measured on text: the largest key and value of every channel. */

import { stored } from '../base/tensor.ts';
import { openFile } from '../evaluate/file.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { IntegerCache } from './attention.ts';
import { exportGraph } from './graph.ts';

/** Share of the largest size that codes reach: at four bits, clipping it costs less than a coarser grid. */
const reach = { 8: 1, 4: 0.85 } as const;

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
  const peaks = layers.map(({ keyValueHeads, headSize }) => ({
    key: new Float32Array(keyValueHeads * headSize),
    value: new Float32Array(keyValueHeads * headSize),
  }));
  const runner = await openFile(exportGraph(model), session);
  try {
    for (const sequence of sequences) {
      signal?.throwIfAborted();
      const { cache } = await runner.step(sequence, 0, runner.empty(), 1);
      for (const [layer, { key, value }] of peaks.entries()) {
        raise(key, cache[`past_key_values.${layer}.key`]);
        raise(value, cache[`past_key_values.${layer}.value`]);
      }
    }
  } finally {
    await runner.close();
  }
  const top = (2 ** (bits - 1) - 1) / reach[bits];
  const scale = (layer: number, sizes: Float32Array) => {
    const { keyValueHeads, headSize } = layers[layer];
    // A channel that was never used needs a scale all the same.
    const scales = sizes.map((size) => (size > 0 ? size / top : 1));
    return stored('float32', [1, keyValueHeads, 1, headSize], scales);
  };
  return {
    bits,
    scales: peaks.map(({ key, value }, layer) => ({ key: scale(layer, key), value: scale(layer, value) })),
  };
}

/** Largest sizes of channels, with those of a cache [1, heads, tokens, size] among them. */
function raise(peaks: Float32Array, { data, dims }: Tensor): void {
  const [, , tokens, size] = dims;
  const values = data as Float32Array;
  for (let at = 0; at < values.length; at++) {
    const channel = Math.floor(at / (tokens * size)) * size + (at % size);
    const value = Math.abs(values[at]);
    if (value > peaks[channel]) peaks[channel] = value;
  }
}

/** Bytes of keys and values that a token takes, with a cache in so many bits. */
export const cacheBytes = ({ config: { layers } }: Model, bits: 4 | 8 | 16 | 32): number =>
  layers.reduce((sum, { keyValueHeads, headSize }) => sum + (2 * keyValueHeads * headSize * bits) / 8, 0);
