/**
 * Grouped integers whose scales take a byte each: a float16 without its sign and the last seven bits, which leaves five of
 * exponent and three of mantissa. Half of what the scales of small groups cost; engines widen them when they load a file.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { cast, gather } from '../graph/ops.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import type { PackedCodes } from './grouped.ts';
import { groupedPacked } from './grouped.ts';
import { baseDescription } from './rounded.ts';

/** Bits of a float16 that are not stored, below those that are. */
const dropped = 7;

/** Grouped integers; their scales in a byte each where that loses nothing, as scales of the type "byte" do. */
export function groupedInBytes(parts: PackedCodes): Encoding {
  const base = groupedPacked(parts);
  const scales = base.tensors.get('scales')!;
  if (scales.dtype !== 'float16') return base;
  const halves = new Uint16Array(scales.bytes().slice().buffer);
  // A sign would be a ninth bit.
  if (halves.some((half) => (half & 0x807f) !== 0)) return base;
  const bytes = Uint8Array.from(halves, (half) => half >> dropped);
  return fromBase(base, stored('uint8', scales.shape, bytes));
}

/** @param restore of the integers with scales in float16 */
export function restoreByteScales(
  { description, shape, tensors }: EncodingAtRest,
  restore: (atRest: EncodingAtRest) => Encoding,
): Encoding {
  const bytes = tensors.get(suffix);
  if (bytes?.dtype !== 'uint8' || tensors.has('scales')) {
    throw new LapidaryError({
      what: 'these are no grouped integers with scales in bytes',
      expected: `${suffix}, uint8, and no scales`,
      found: [...tensors.keys()].join(', '),
    });
  }
  const halves = Uint16Array.from(bytes.bytes(), (byte) => byte << dropped);
  const rest = [...tensors].filter(([name]) => name !== suffix);
  const scales = stored('float16', bytes.shape, halves);
  const base = { description: baseDescription(description.base), shape };
  return fromBase(restore({ ...base, tensors: new Map([...rest, ['scales', scales]]) }), bytes);
}

const suffix = 'scaleBytes';

function fromBase(base: Encoding, bytes: Stored): Encoding {
  const rest = [...base.tensors].filter(([name]) => name !== 'scales');
  const widened =
    (place: Place): Place =>
    (name, tensor) =>
      name === 'scales' ? halvesOf(place(suffix, bytes)) : place(name, tensor);
  return {
    description: { kind: 'byte-scales', base: JSON.stringify(base.description) },
    label: `${base.label}, 8-bit scales`,
    shape: base.shape,
    bits: base.bits,
    tensors: new Map([...rest, [suffix, bytes]]),
    dense: base.dense,
    multiply: (x, place, options) => base.multiply(x, widened(place), options),
    gather: (ids, place, dtype) => base.gather(ids, widened(place), dtype),
  };
}

/** The float16 values that bytes stand for. */
function halvesOf(bytes: Value): Value {
  return gather(tableIn(bytes.graph), cast(bytes, 'int32'));
}

/** One table for all matrices of a graph. */
const tables = new WeakMap<Graph, Value>();

function tableIn(graph: Graph): Value {
  const halves = Uint16Array.from({ length: 256 }, (_, byte) => byte << dropped);
  const table = tables.get(graph) ?? graph.constant(stored('float16', [256], halves), 'byte_scales');
  tables.set(graph, table);
  return table;
}
