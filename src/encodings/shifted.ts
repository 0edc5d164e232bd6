/**
 * A matrix of grouped integers whose zero points are no codes: every group has a number of its own added to all of its
 * weights, w = (code - middle) * scale + offset. A product adds the sums of the input's groups times the offsets, a
 * product as many times smaller as a group is long; so it needs no operator that not every engine has.
 */

import { LapidaryError } from '../base/errors.ts';
import { halfCode, halfValue, toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  add,
  cast,
  concat,
  expand,
  fusedMatmul,
  gather,
  reduceSum,
  reshape,
  slice,
  unsqueeze,
} from '../graph/ops.ts';
import type { Encoding, EncodingAtRest } from './encoding.ts';
import type { PackedCodes } from './grouped.ts';
import { groupedPacked, groupsOf } from './grouped.ts';
import { baseDescription } from './rounded.ts';

/**
 * Stored besides the codes and scales: the offsets, in float16 where that loses nothing, else in float32.
 * @param codes with zero points only where they count from other codes than the middle one
 * @param offsets [rows, groups]
 * @throws LapidaryError on sizes that do not agree, and offsets that are not finite
 */
export function shifted(codes: PackedCodes, offsets: Float32Array): Encoding {
  const shape = [codes.rows, groupsOf(codes)];
  if (offsets.length !== shape[0] * shape[1]) {
    refuse([codes.rows, codes.columns], `${shape[0] * shape[1]} offsets`, `${offsets.length}`);
  }
  const base = groupedPacked(codes);
  const halves = Uint16Array.from(offsets, halfCode);
  const exact = offsets.every((offset, i) => halfValue(halves[i]) === offset);
  const tensor = exact ? stored('float16', shape, halves) : stored('float32', shape, offsets);
  return shiftedOf(base, tensor);
}

/** @param restore of the codes and scales */
export function restoreShifted(
  { description, shape, tensors }: EncodingAtRest,
  restore: (atRest: EncodingAtRest) => Encoding,
): Encoding {
  const offsets = tensors.get(suffix);
  if (!offsets) refuse(shape, suffix, [...tensors.keys()].join(', '));
  const rest = [...tensors].filter(([name]) => name !== suffix);
  const unprefixed = rest.map(([name, tensor]) => [name.slice(prefix.length), tensor] as const);
  const base = { description: baseDescription(description.base), shape, tensors: new Map(unprefixed) };
  return shiftedOf(restore(base), offsets);
}

const suffix = 'offsets';
const prefix = 'base.';

/** The grouped integers of a matrix with offsets, and these; undefined for encodings of other kinds. */
export function shiftedParts({
  description,
  shape,
  bits,
  tensors,
}: Pick<Encoding, 'description' | 'shape' | 'bits' | 'tensors'>):
  { readonly base: EncodingAtRest & Pick<Encoding, 'bits'>; readonly offsets: Stored } | undefined {
  if (description.kind !== 'shifted') return undefined;
  const parts = [...tensors].filter(([name]) => name.startsWith(prefix));
  const unprefixed = new Map(parts.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
  const base = { description: baseDescription(description.base), shape, bits, tensors: unprefixed };
  return { base, offsets: tensors.get(suffix)! };
}

function shiftedOf(base: Encoding, offsets: Stored): Encoding {
  const [rows, columns] = base.shape;
  const groups = base.tensors.get('scales')?.shape[1];
  if (offsets.shape.join() !== `${rows},${groups}`) {
    refuse(base.shape, `offsets [${rows}, ${groups}]`, `[${offsets.shape.join(', ')}]`);
  }
  if (!toFloat32(offsets).every(Number.isFinite)) refuse(base.shape, 'finite offsets', 'others');
  const length = groups === 1 ? columns : (base.description.group as number);
  const count = groups!;
  return {
    description: { kind: 'shifted', base: JSON.stringify(base.description) },
    label: `${base.label}, offsets ${offsets.dtype}`,
    shape: base.shape,
    bits: base.bits,
    tensors: new Map([
      ...[...base.tensors].map(([name, tensor]) => [prefix + name, tensor] as const),
      [suffix, offsets],
    ]),
    dense() {
      const values = base.dense();
      const added = toFloat32(offsets);
      for (let at = 0; at < values.length; at++) {
        const row = Math.floor(at / columns);
        values[at] += added[row * count + Math.floor((at - row * columns) / length)];
      }
      return values;
    },
    multiply(x, place, options) {
      const product = base.multiply(x, (name, tensor) => place(prefix + name, tensor), options);
      const added = cast(place(suffix, offsets), x.dtype);
      return add(product, fusedMatmul(groupSums(x, length), added, { transB: true }));
    },
    gather(ids, place, dtype) {
      const looked = base.gather(ids, (name, tensor) => place(prefix + name, tensor), dtype);
      return add(looked, spread(gather(cast(place(suffix, offsets), dtype), ids), length, columns));
    },
  };
}

/** [..., columns] summed over groups of so many: [..., groups]. */
function groupSums(x: Value, length: number): Value {
  const columns = x.shape.at(-1) as number;
  const lead = x.shape.slice(0, -1);
  const whole = Math.floor(columns / length);
  const sums = (part: Value, groups: number) =>
    reduceSum(reshape(part, [...lead, groups, -1]), [lead.length + 1]);
  if (whole * length === columns) return sums(x, whole);
  const rest = reduceSum(slice(x, -1, whole * length, columns), [lead.length], true);
  return whole === 0 ? rest : concat([sums(slice(x, -1, 0, whole * length), whole), rest], lead.length);
}

/** [..., groups] repeated over the columns of each: [..., columns]. */
function spread(x: Value, length: number, columns: number): Value {
  const wide = expand(unsqueeze(x, [-1]), [...x.shape, length]);
  const joined = reshape(wide, [...x.shape.slice(0, -1), -1]);
  return joined.shape.at(-1) === columns ? joined : slice(joined, -1, 0, columns, columns);
}

function refuse(shape: Encoding['shape'], expected: string, found: string): never {
  throw new LapidaryError({
    what: 'this is no matrix with offsets',
    where: `matrix [${shape.join(', ')}]`,
    expected,
    found,
  });
}
