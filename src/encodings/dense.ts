/** A matrix as it came: float32, float16 or bfloat16, kept in the type it was stored in and widened where it is used. */

import { LapidaryError } from '../base/errors.ts';
import { floatToHalf, toFloat32 } from '../base/half.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { byteLength, stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { cast, fusedMatmul, gather } from '../graph/ops.ts';
import type { Encoding, Place } from './encoding.ts';

const widths: Partial<Record<DType, number>> = { float32: 32, float16: 16, bfloat16: 16 };

/**
 * @param tensor [out, in]
 * @throws LapidaryError where it is no matrix of floats.
 */
export function dense(tensor: Stored): Encoding {
  const [rows, columns] = tensor.shape;
  const bits = widths[tensor.dtype];
  if (bits === undefined || tensor.shape.length !== 2) {
    throw new LapidaryError({
      what: 'a tensor that cannot be used as a dense matrix',
      expected: `${Object.keys(widths).join(', ')} with two sizes`,
      found: `${tensor.dtype} [${tensor.shape.join(', ')}]`,
    });
  }
  const wide = retyped(tensor, 'float32');
  return {
    description: { kind: 'dense' },
    label: tensor.dtype,
    shape: [rows, columns],
    bits,
    tensors: new Map([['weight', tensor]]),
    plain: tensor,
    dense: () => toFloat32(tensor),
    multiply: (x, place) => fusedMatmul(x, cast(placed(x, place), x.dtype), { transB: true }),
    // The rows looked up are few: widen those, not the matrix.
    gather: (ids, place, dtype) => cast(gather(looked(ids, place), ids), dtype),
  };

  /** As it is stored, where a graph takes that as an input; a tied head beside it multiplies by the wide one. */
  function looked(near: Value, place: Place): Value {
    const asInput = near.graph.weightsAs === 'inputs' && tensor.dtype === 'float16';
    return asInput ? place('table', tensor) : placed(near, place);
  }

  /** A graph takes bfloat16 only inside it; as an input, and rather than at every run, it is widened here. */
  function placed(near: Value, place: Place): Value {
    if (near.graph.weightsAs === 'inputs') return place('weight', wide);
    const value = place('weight', tensor);
    return value.dtype === 'bfloat16' ? cast(value, 'float32') : value;
  }
}

/** Float32 values as an encoding; the array is shared, not copied. */
export function denseValues(values: Float32Array, rows: number, columns: number): Encoding {
  return dense(stored('float32', [rows, columns], values));
}

/**
 * y = x W^T by values that are decoded before the graph runs, for all its runs: what graphs whose weights are inputs do,
 * since nothing is worked out at load then.
 */
export function decodedProduct(
  x: Value,
  place: Place,
  { shape, dense: values }: Pick<Encoding, 'shape' | 'dense'>,
): Value {
  return fusedMatmul(x, cast(place('weight', lazyValues(shape, values)), x.dtype), { transB: true });
}

/** Float32 values that are computed when they are read. */
export function lazyValues(shape: readonly [number, number], values: () => Float32Array): Stored {
  const bytes = () => new Uint8Array(values().buffer as ArrayBuffer);
  return { dtype: 'float32', shape, byteLength: byteLength('float32', shape), bytes };
}

/** Types that graphs compute in. */
export type ActivationType = 'float32' | 'float16';

/** The same values in another float type, converted each time the bytes are read: a model is never held twice. */
export function retyped(tensor: Stored, dtype: ActivationType): Stored {
  if (tensor.dtype === dtype) return tensor;
  const bytes = () => {
    const values = toFloat32(tensor);
    return new Uint8Array((dtype === 'float16' ? floatToHalf(values) : values).buffer as ArrayBuffer);
  };
  return { dtype, shape: tensor.shape, byteLength: byteLength(dtype, tensor.shape), bytes };
}
