/**
 * FP8 as DeepSeek, Qwen and Mistral publish it (quant_method "fp8"): weight F8_E4M3 [out, in] and weight_scale_inv, despite
 * its name what codes are multiplied by: a number for each block of rows and columns (weight_block_size), or one for all.
 * Others call the one for all weight_scale. Inputs that the checkpoint would round (activation_scheme) are taken as they
 * are. transformers reads it in src/transformers/integrations/finegrained_fp8.py.
 */

import { isObject } from '../../base/json.ts';
import { elementCount } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Json } from '../settings.ts';
import { wrongSetting } from '../settings.ts';
import { eightBits } from './compressed-floats.ts';
import { blockOf } from './scheme.ts';
import type { QuantizedFormat } from './format.ts';
import type { MatrixTensors } from './tensors.ts';
import { refuse } from './tensors.ts';

export const fp8: QuantizedFormat = {
  name: 'fp8',
  matches: ({ quantization_config: config }) => isObject(config) && config.quant_method === 'fp8',
  bits: () => undefined,
  open({ quantization_config: config }) {
    const json = config as Json;
    const numbers = json.fmt ?? 'e4m3';
    if (numbers !== 'e4m3') throw wrongSetting('quantization_config.fmt', 'e4m3', numbers);
    const size = json.weight_block_size ?? undefined;
    const block = size === undefined ? undefined : blockOf(size, 'quantization_config.weight_block_size');
    return (_, tensors) =>
      tensors.get('weight')?.dtype === 'float8e4m3' ? fp8Encoding(tensors, block) : undefined;
  },
};

/**
 * One matrix.
 * @param block rows and columns that share a scale, where the settings have blocks
 * @throws LapidaryError on tensors that do not agree with the settings or each other
 */
export function fp8Encoding(
  tensors: MatrixTensors,
  block: readonly [rows: number, columns: number] | undefined,
): Encoding {
  const suffix = ['weight_scale_inv', 'weight_scale'].find((name) => tensors.has(name));
  if (suffix === undefined) return refuse('weight_scale_inv', 'the scales of the codes', 'none');
  const shared = { bits: 8, type: 'float', symmetric: true, group: -1 } as const;
  const { shape } = tensors.get(suffix)!;
  if (elementCount(shape) === 1) return eightBits(tensors, { ...shared, strategy: 'tensor' }, suffix);
  if (block) return eightBits(tensors, { ...shared, strategy: 'block', block }, suffix);
  return eightBits(tensors, { ...shared, strategy: 'channel' }, suffix);
}
