/** Convolutions over a whole sequence in primitive operators, so that they can be differentiated and run anywhere. */

import type { Value } from '../graph/graph.ts';
import { add, concat, mul, reshape, slice, toEnd, zeros } from '../graph/ops.ts';
import type { Convolution } from './scope.ts';

/** See `Scope.convolution`: a sum of as many products as the kernel is wide, each of the sequence some tokens earlier. */
export const plainConvolution: Convolution = (x, { kernel, bias }) => {
  const [batch, time, channels] = x.shape as readonly [number, number, number];
  const width = kernel.shape[2] as number;
  const before = width - 1;
  const padded = before > 0 ? concat([zeros(x.graph, x.dtype, [batch, before, channels]), x], 1) : x;
  const products = Array.from({ length: width }, (_, tap): Value => {
    const moved = slice(padded, 1, tap, tap === before ? toEnd : tap - before, time);
    return mul(moved, reshape(slice(kernel, 2, tap, tap + 1), [channels]));
  });
  const sum = products.reduce(add);
  return bias ? add(sum, bias) : sum;
};
