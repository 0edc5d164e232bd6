/** Stored floats in another float type, converted each time their bytes are read, so that a model is never held twice. */

import { floatToHalf, toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { byteLength } from '../base/tensor.ts';

/** Types that activations, and dense weights with them, have in exported files. */
export type ActivationType = 'float32' | 'float16';

export function inType(tensor: Stored, dtype: ActivationType): Stored {
  if (tensor.dtype === dtype) return tensor;
  return {
    dtype,
    shape: tensor.shape,
    byteLength: byteLength(dtype, tensor.shape),
    bytes() {
      const values = toFloat32(tensor);
      const converted = dtype === 'float16' ? floatToHalf(values) : values;
      return new Uint8Array(converted.buffer, 0, converted.byteLength);
    },
  };
}
