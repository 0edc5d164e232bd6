/**
 * The contract of a weight that knows how to multiply. A matrix is an `Encoding`; methods turn encodings into
 * encodings, exporters read them, and nobody asks which one it is.
 */

import type { DType, Stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';

/** Puts one of an encoding's tensors into a graph; `suffix` is unique within the encoding ("scales"). */
export type Place = (suffix: string, tensor: Stored) => Value;

/**
 * MatMulNBits' accuracy_level on the CPU: 0 multiplies in the type of the activations, 4 rounds these to 8-bit integers,
 * which is faster.
 */
export type AccuracyLevel = 0 | 4;

/** How a graph should compute a product, where the encoding leaves a choice. */
export interface MultiplyOptions {
  /** Of products with codes. Without it all are exact, however slow. */
  readonly accuracy?: AccuracyLevel | undefined;
}

/** What an encoding is at rest: with `restore` in restore.ts it is made again, bit for bit. */
export interface EncodingAtRest {
  /** Its kind and what else its tensors do not say; plain JSON. */
  readonly description: Readonly<Record<string, string | number>>;
  /** [out, in]: rows are output features. */
  readonly shape: readonly [rows: number, columns: number];
  /** Everything it stores, by suffix; the sum of their byte lengths is what the matrix costs. */
  readonly tensors: ReadonlyMap<string, Stored>;
}

export interface Encoding extends EncodingAtRest {
  /** What it is, for people: "float32", "4-bit, group 32". */
  readonly label: string;
  /** Bits a weight takes as its codes alone, without scales; 32 or 16 for dense ones. */
  readonly bits: number;
  /** Bits that a product rounds its inputs to; undefined where it takes them as they are. */
  readonly inputBits?: number | undefined;
  /** How many weights it has, and multiply-adds its product with a vector takes, where that is not rows times columns. */
  readonly weights?: number | undefined;
  /** Where it is the product of two: y = (x down^T) up^T. */
  readonly factors?: { readonly down: Encoding; readonly up: Encoding } | undefined;
  /** Why its products are slower than those of floats, where they are. */
  readonly slow?: string | undefined;
  /** The tensor that holds its values as they are, row-major, where one does. */
  readonly plain?: Stored | undefined;
  /** All values, row-major [out, in]; a fresh array that the caller may write to. */
  dense(): Float32Array;
  /** The values of some rows, where that is less work than `dense`. */
  rows?(indices: readonly number[]): Float32Array;
  /** y = x W^T: [..., in] to [..., out], in x's type. */
  multiply(x: Value, place: Place, options?: MultiplyOptions): Value;
  /** Rows of the matrix, as an embedding looks them up: ids [...] (int64) to [..., in], in `dtype`. */
  gather(ids: Value, place: Place, dtype: DType): Value;
}

/** Bytes that an encoding stores. */
export function encodedBytes(encoding: Encoding): number {
  let bytes = 0;
  for (const tensor of encoding.tensors.values()) bytes += tensor.byteLength;
  return bytes;
}

/** How many weights an encoding has; multiply-adds that its product with a vector takes. */
export const weightsOf = ({ weights, shape }: Pick<Encoding, 'weights' | 'shape'>): number =>
  weights ?? shape[0] * shape[1];
