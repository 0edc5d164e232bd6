/** The tensors that a checkpoint format stores of one matrix, checked before they are read. */

import { LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';

/** By suffix: "qweight", "scales". */
export type MatrixTensors = ReadonlyMap<string, Stored>;

/** @throws LapidaryError where the tensor is missing, of another type, or, where it is given, of another shape */
export function tensorOf(
  tensors: MatrixTensors,
  suffix: string,
  types: readonly DType[],
  shape?: readonly number[],
): Stored {
  const tensor = tensors.get(suffix);
  const expected = `${types.join(' or ')}${shape ? ` [${shape.join(', ')}]` : ' with two sizes'}`;
  if (!tensor) return refuse(suffix, expected, 'none');
  const fits = shape ? tensor.shape.join() === shape.join() : tensor.shape.length === 2;
  if (types.includes(tensor.dtype) && fits) return tensor;
  return refuse(suffix, expected, `${tensor.dtype} [${tensor.shape.join(', ')}]`);
}

export function refuse(suffix: string, expected: string, found: string): never {
  throw new LapidaryError({
    what: 'a quantized matrix is not as the checkpoint says',
    where: suffix,
    expected,
    found,
    fix: 'check that the bits and the group size that config.json names belong to these weights',
  });
}

/** Types of scales. */
export const floats: readonly DType[] = ['float16', 'bfloat16', 'float32'];

/** A stored tensor of 32-bit words, in a fresh array. */
export const wordsOf = (tensor: Stored): Uint32Array =>
  new Uint32Array(new Uint8Array(tensor.bytes()).buffer);
