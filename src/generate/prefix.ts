/** What a cache of keys and values still holds of another prompt: the tokens that both begin with. */

import type { Cache } from '../evaluate/file.ts';
import type { Tensor, TensorType } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';

/** Tokens that two sequences begin with. */
export function commonPrefix(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/** The first tokens of a cache that can be cut: each tensor [rows, heads, past, size] becomes [rows, heads, length, size]. */
export function firstOf(cache: Cache, length: number): Cache {
  return Object.fromEntries(Object.entries(cache).map(([name, kept]) => [name, cut(kept, length)]));
}

function cut(kept: Tensor, length: number): Tensor {
  const [rows, heads, past, size] = kept.dims as [number, number, number, number];
  if (past === length) return kept;
  const data = kept.data as Float32Array;
  const part = new (data.constructor as Float32ArrayConstructor)(rows * heads * length * size);
  for (let head = 0; head < rows * heads; head++) {
    const from = head * past * size;
    part.set(data.subarray(from, from + length * size), head * length * size);
  }
  return tensor(kept.type as TensorType, [rows, heads, length, size], part);
}
