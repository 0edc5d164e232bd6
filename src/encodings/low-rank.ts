/**
 * A matrix as the product of two thin ones, W = up down, so that y = x W^T = (x down^T) up^T: two products in a graph,
 * never the matrix itself. Each factor is an encoding of its own, and may be quantized as any matrix.
 */

import { LapidaryError } from '../base/errors.ts';
import { pickedRows } from '../base/rows.ts';
import { matmul, range } from '../graph/ops.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import { weightsOf } from './encoding.ts';
import { baseDescription } from './rounded.ts';

const parts = ['down', 'up'] as const;

/**
 * @param down [rank, in]
 * @param up [out, rank]
 * @throws LapidaryError where their ranks differ
 */
export function lowRank(down: Encoding, up: Encoding): Encoding {
  const [rank, columns] = down.shape;
  const rows = up.shape[0];
  if (up.shape[1] !== rank) refuse(`factors of one rank, ${rank}`, `[${up.shape.join(', ')}]`);
  const prefixed = [down, up].flatMap((factor, index) =>
    [...factor.tensors].map(([suffix, tensor]) => [`${parts[index]}.${suffix}`, tensor] as const),
  );
  const within =
    (part: (typeof parts)[number], place: Place): Place =>
    (suffix, tensor) =>
      place(`${part}.${suffix}`, tensor);
  const product = (left: Float32Array, count: number) => times(left, down.dense(), [count, rank, columns]);
  return {
    description: {
      kind: 'low-rank',
      down: JSON.stringify(down.description),
      up: JSON.stringify(up.description),
      rank,
    },
    label: `rank ${rank}, ${down.label === up.label ? up.label : `${down.label} and ${up.label}`}`,
    shape: [rows, columns],
    bits: Math.max(down.bits, up.bits),
    ...(down.inputBits !== undefined && { inputBits: down.inputBits }),
    weights: weightsOf(down) + weightsOf(up),
    factors: { down, up },
    tensors: new Map(prefixed),
    dense: () => product(up.dense(), rows),
    rows: (indices) => product(up.rows?.(indices) ?? pickedRows(up.dense(), rank, indices), indices.length),
    multiply: (x, place, options) =>
      up.multiply(down.multiply(x, within('down', place), options), within('up', place), options),
    gather(ids, place, dtype) {
      const whole = down.gather(range(ids.graph, rank), within('down', place), dtype);
      return matmul(up.gather(ids, within('up', place), dtype), whole);
    },
  };
}

/** @param restore of the factors */
export function restoreLowRank(
  { description, shape: [rows, columns], tensors }: EncodingAtRest,
  restore: (atRest: EncodingAtRest) => Encoding,
): Encoding {
  const rank = Number(description.rank);
  const shapes = { down: [rank, columns], up: [rows, rank] } as const;
  const [down, up] = parts.map((part): EncodingAtRest => {
    const own = [...tensors].filter(([suffix]) => suffix.startsWith(`${part}.`));
    return {
      description: baseDescription(description[part]),
      shape: shapes[part],
      tensors: new Map(own.map(([suffix, tensor]) => [suffix.slice(part.length + 1), tensor])),
    };
  });
  return lowRank(restore(down!), restore(up!));
}

/** a b, row-major [rows, columns], summed over `inner`. */
function times(
  a: Float32Array,
  b: Float32Array,
  [rows, inner, columns]: readonly [rows: number, inner: number, columns: number],
): Float32Array {
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < inner; k++) {
      const factor = a[row * inner + k];
      for (let column = 0; column < columns; column++)
        values[row * columns + column] += factor * b[k * columns + column];
    }
  return values;
}

function refuse(expected: string, found: string): never {
  throw new LapidaryError({ what: 'these are not the factors of a matrix', expected, found });
}
