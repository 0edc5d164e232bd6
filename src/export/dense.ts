/**
 * Writes dense matrices in a form that every engine takes. Browsers have no bfloat16, and their GPUs may have no float16 to compute
 * in; so 16-bit weights are stored in float16, and where activations are float32 one Cast of the stored matrix, which
 * engines do once when they load the file, feeds products and lookups alike.
 */

import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import type { ActivationType } from '../encodings/dense.ts';
import { dense, retyped } from '../encodings/dense.ts';
import type { Encoding, Place } from '../encodings/encoding.ts';
import type { Value } from '../graph/graph.ts';
import { cast, fusedMatmul, gather } from '../graph/ops.ts';

/** @param tensor a dense matrix [out, in] of any float type */
export function portable(tensor: Stored, activations: ActivationType): Encoding {
  const kept = retyped(tensor, storedType(tensor, activations));
  const casts = new Map<Value, Value>();
  const placed = (place: Place) => {
    const value = place('weight', kept);
    const weight = casts.get(value) ?? cast(value, activations);
    casts.set(value, weight);
    return weight;
  };
  return {
    ...dense(kept),
    multiply: (x, place) => fusedMatmul(x, placed(place), { transB: true }),
    gather: (ids, place) => gather(placed(place), ids),
  };
}

function storedType(tensor: Stored, activations: ActivationType): ActivationType {
  if (activations === 'float16' || tensor.dtype === 'float16') return 'float16';
  // Below 2^-14 float16 has fewer digits than bfloat16: such a value moves by 3e-8 at most, above nothing moves.
  const fits =
    tensor.dtype === 'bfloat16' && toFloat32(tensor).every((value) => Math.abs(value) <= largestHalf);
  return fits ? 'float16' : 'float32';
}

const largestHalf = 65504;
