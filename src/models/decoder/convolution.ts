/** The gated short convolution of a decoder's layer. */

import type { Value } from '../../graph/graph.ts';
import { mul, split } from '../../graph/ops.ts';
import type { Scope } from '../model.ts';
import type { ConvolutionNames } from './traits.ts';

interface Parts {
  /** Whole. */
  readonly names: ConvolutionNames;
  readonly biased: boolean;
}

/** y = W_out (c * conv(b * v)), with b, c and v = W_in x, a third of the rows each. */
export function shortConvolution(scope: Scope, { names, biased }: Parts, x: Value, layer: number): Value {
  const { hidden, layers } = scope.config;
  const bias = (name: string) => (biased ? `${name}.bias` : undefined);
  const joined = scope.linear(names.input, x, 3 * hidden, bias(names.input));
  const [before, behind, value] = split(joined, [hidden, hidden, hidden], -1);
  const weights = {
    kernel: scope.vector(`${names.kernel}.weight`, [hidden, 1, layers[layer].convolution!.width]),
    bias: biased ? scope.vector(`${names.kernel}.bias`, hidden) : undefined,
  };
  const mixed = scope.convolution(mul(before, value), weights, layer);
  return scope.linear(names.output, mul(behind, mixed), hidden, bias(names.output));
}
