/**
 * Inputs rounded to a few bits in front of any matrix, each token by its own largest size: what an engine with integer
 * inputs would compute, here in plain operators.
 */

import { LapidaryError } from '../base/errors.ts';
import { parseJsonObject } from '../base/json.ts';
import type { Value } from '../graph/graph.ts';
import { abs, cast, div, max, mul, reduceMax, round, scalar, scale } from '../graph/ops.ts';
import type { Encoding, EncodingAtRest } from './encoding.ts';

/** So that a token of nothing but zeros has a scale too. */
const leastScale = 2 ** -100;

/**
 * Symmetric codes of each token, still as float32: round(x / scale), scale = max|x| / (2^(bits - 1) - 1) over the last
 * axis.
 * @param x [..., columns] in any float type
 * @returns codes [..., columns], whole numbers, and scales [..., 1]
 */
export function roundTokens(x: Value, bits: number): { readonly codes: Value; readonly scales: Value } {
  const wide = cast(x, 'float32');
  const largest = reduceMax(abs(wide), [-1], true);
  const scales = max(scale(largest, 1 / (2 ** (bits - 1) - 1)), scalar(x.graph, leastScale));
  return { codes: round(div(wide, scales)), scales };
}

/** The same matrix, whose products round their inputs to so many bits, 2 to 8. */
export function roundedActivations(base: Encoding, { bits }: { readonly bits: number }): Encoding {
  if (!Number.isInteger(bits) || bits < 2 || bits > 8) {
    throw new LapidaryError({
      what: 'inputs cannot be rounded so',
      expected: '2 to 8 bits',
      found: `${bits}`,
    });
  }
  return {
    description: { kind: 'rounded', bits, base: JSON.stringify(base.description) },
    label: `${base.label}, inputs ${bits}-bit by token`,
    shape: base.shape,
    bits: base.bits,
    inputBits: bits,
    tensors: base.tensors,
    dense: base.dense,
    multiply(x, place, options) {
      const { codes, scales } = roundTokens(x, bits);
      return base.multiply(cast(mul(codes, scales), x.dtype), place, options);
    },
    gather: base.gather,
  };
}

/** @param restore of the matrix itself */
export function restoreRounded(
  { description, shape, tensors }: EncodingAtRest,
  restore: (atRest: EncodingAtRest) => Encoding,
): Encoding {
  const { bits, base } = description;
  return roundedActivations(restore({ description: baseDescription(base), shape, tensors }), {
    bits: bits as number,
  });
}

/** What stands in another encoding's description. @throws LapidaryError where it is none */
export function baseDescription(text: unknown): EncodingAtRest['description'] {
  const what = 'this is not the description of an encoding';
  return parseJsonObject(String(text), { where: 'description', what }) as EncodingAtRest['description'];
}
