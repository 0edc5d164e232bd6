/** The float type of a checkpoint: of its vectors, of what is not quantized, and of scales. */

import { floatToBfloat, floatToHalf } from '../../base/half.ts';

/** What the model computes in: engines make it so where it is not. */
export type FloatName = 'float16' | 'bfloat16' | 'float32';

/** By the names that recipes have for them. */
export const floatNames = { F16: 'float16', BF16: 'bfloat16', F32: 'float32' } as const;

export function asFloats(values: Float32Array, floats: FloatName): Float32Array | Uint16Array {
  if (floats === 'float32') return values;
  return floats === 'float16' ? floatToHalf(values) : floatToBfloat(values);
}
