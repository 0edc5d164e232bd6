/**
 * A matrix of one or two planes of signs, each with a scale for a group of a row: w = a s + b t, s and t being -1 or 1
 * (Rastegari et al. 2016, XNOR-Net; with a second plane for what the first leaves, Guo et al. 2017, Network Sketching).
 * A bit is stored for each sign. Engines have no product for bits: in a graph they are looked up by whole bytes, one plane as
 * codes of two bits and two as weights, which the engine works out once, when it loads the file.
 */

import { LapidaryError } from '../base/errors.ts';
import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { add, cast, floats, fusedMatmul, gather, mul, reshape, slice, unsqueeze } from '../graph/ops.ts';
import { blockProduct } from './block-product.ts';
import { decodedProduct } from './dense.ts';
import type { Encoding, EncodingAtRest } from './encoding.ts';
import type { GroupSize } from './grouped.ts';
import { groupSizes, groupsOf, storeScales } from './grouped.ts';
import { pack } from './pack.ts';

interface Sizes {
  readonly rows: number;
  readonly columns: number;
  /** Weights along a row that share a scale; -1 for the whole row. */
  readonly group: GroupSize;
}

export interface SignPlane {
  /** [rows, columns]: 1 for 1, 0 for -1. */
  readonly signs: Uint8Array;
  /** [rows, groups]. */
  readonly scales: Float32Array;
}

/** @throws LapidaryError on sizes that do not agree, and scales that are not finite */
export function binary({ planes, ...sizes }: Sizes & { readonly planes: readonly SignPlane[] }): Encoding {
  const { rows, columns } = sizes;
  const tensors = new Map<string, Stored>();
  planes.forEach(({ signs, scales }, plane) => {
    if (signs.length !== rows * columns) refuse(sizes, `${rows * columns} signs`, `${signs.length}`);
    const shape = [rows, rowBytes(sizes)];
    tensors.set(`signs${plane}`, stored('uint8', shape, packSigns(signs, sizes)));
    const count = rows * groupsOf(sizes);
    if (scales.length !== count) refuse(sizes, `${count} scales`, `${scales.length}`);
    tensors.set(`scales${plane}`, storeScales(scales, rows));
  });
  return restoreBinary({
    description: { kind: 'binary', planes: planes.length, group: sizes.group },
    shape: [rows, columns],
    tensors,
  });
}

/**
 * A matrix of signs from what it is at rest.
 * @throws LapidaryError where tensors do not agree with the sizes, and on scales that are not finite
 */
export function restoreBinary({ description, shape, tensors }: EncodingAtRest): Encoding {
  const [rows, columns] = shape;
  const { planes, group } = description as { readonly planes: number; readonly group: GroupSize };
  const sizes: Sizes = { rows, columns, group };
  if (planes !== 1 && planes !== 2) refuse(sizes, '1 or 2 planes', `${planes}`);
  if (group !== -1 && !groupSizes.includes(group))
    refuse(sizes, `groups of ${groupSizes.join(', ')} or -1`, `${group}`);
  for (let plane = 0; plane < planes; plane++) {
    check(sizes, tensors, `signs${plane}`, ['uint8'], [rows, rowBytes(sizes)]);
    check(sizes, tensors, `scales${plane}`, ['float16', 'float32'], [rows, groupsOf(sizes)]);
    if (!toFloat32(tensors.get(`scales${plane}`)!).every(Number.isFinite))
      refuse(sizes, 'finite scales', 'others');
  }
  if (tensors.size > 2 * planes) refuse(sizes, 'no other tensors', [...tensors.keys()].join(', '));
  const each = Array.from({ length: planes }, (_, plane) => plane);
  const dense = () =>
    valuesOf(
      sizes,
      each.map((plane) => ({
        packed: tensors.get(`signs${plane}`)!.bytes(),
        scales: toFloat32(tensors.get(`scales${plane}`)!),
      })),
    );
  const inGraph = (put: (suffix: string) => Value, ids?: Value) =>
    each.map((plane) => planeInGraph(put(`signs${plane}`), put(`scales${plane}`), columns, ids)).reduce(add);
  return {
    description: { kind: 'binary', planes, group },
    label: `binary, ${planes === 1 ? 'one plane' : 'two planes'}, ${group === -1 ? 'whole rows' : `group ${group}`}`,
    shape,
    bits: planes,
    tensors,
    dense,
    multiply(x, place, { accuracy } = {}) {
      if (x.graph.weightsAs === 'inputs') return decodedProduct(x, place, { shape, dense });
      const put = (suffix: string) => place(suffix, tensors.get(suffix)!);
      // Two planes would be two products.
      if (planes === 1 && group !== -1 && accuracy !== undefined && x.dtype === 'float32') {
        const codes = reshape(codesInGraph(put('signs0')), [rows, groupsOf(sizes), group / 4]);
        const operands = { codes, scales: cast(put('scales0'), x.dtype) };
        return blockProduct(x, operands, { rows, columns, bits: 2, block: group }, accuracy);
      }
      return fusedMatmul(x, cast(inGraph(put), x.dtype), { transB: true });
    },
    gather: (ids, place, dtype) =>
      cast(
        inGraph((suffix) => place(suffix, tensors.get(suffix)!), ids),
        dtype,
      ),
  };
}

/** Rows are filled up to whole groups, or bytes. */
const rowBytes = (sizes: Sizes): number =>
  sizes.group === -1 ? Math.ceil(sizes.columns / 8) : (groupsOf(sizes) * sizes.group) / 8;

/** The first sign of a row in the lowest bit of its first byte. */
function packSigns(signs: Uint8Array, sizes: Sizes): Uint8Array {
  const length = rowBytes(sizes);
  const packed = new Uint8Array(sizes.rows * length);
  for (let row = 0; row < sizes.rows; row++) {
    for (let column = 0; column < sizes.columns; column++) {
      packed[row * length + (column >> 3)] |= signs[row * sizes.columns + column] << (column & 7);
    }
  }
  return packed;
}

interface PackedPlane {
  readonly packed: Uint8Array;
  readonly scales: Float32Array;
}

function valuesOf(sizes: Sizes, planes: readonly PackedPlane[]): Float32Array {
  const { rows, columns, group } = sizes;
  const [length, groups] = [rowBytes(sizes), groupsOf(sizes)];
  const size = group === -1 ? columns : group;
  const values = new Float32Array(rows * columns);
  for (const { packed, scales } of planes) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const scale = scales[row * groups + Math.floor(column / size)];
        const positive = (packed[row * length + (column >> 3)] >> (column & 7)) & 1;
        values[row * columns + column] += positive === 1 ? scale : -scale;
      }
    }
  }
  return values;
}

/** The eight signs in each byte. */
const signTable = Float32Array.from({ length: 256 * 8 }, (_, at) => 2 * (((at >> 3) >> (at & 7)) & 1) - 1);

/** Signs as codes of two bits around 2: bytes [...] to [..., 2]. */
function codesInGraph(signs: Value): Value {
  const codes = Uint8Array.from(signTable, (sign) => sign + 2);
  return gather(floats(signs.graph, pack(codes, 8, 2), [256, 2], 'uint8'), cast(signs, 'int32'));
}

/** A plane's values [rows, columns], or those of the rows at ids [..., columns]; float32. */
function planeInGraph(signs: Value, scales: Value, columns: number, ids?: Value): Value {
  const rowsOf = (value: Value) => (ids ? gather(value, ids) : value);
  const outer = ids ? ids.shape : signs.shape.slice(0, 1);
  const looked = gather(floats(signs.graph, signTable, [256, 8]), cast(rowsOf(signs), 'int32'));
  const grouped = reshape(looked, [...outer, scales.shape[1], -1]);
  // Cast first, which engines do at load: a GPU without float16 could not even look them up.
  const factors = unsqueeze(rowsOf(cast(scales, 'float32')), [-1]);
  const values = reshape(mul(grouped, factors), [...outer, -1]);
  return values.shape.at(-1) === columns ? values : slice(values, -1, 0, columns, columns);
}

function check(
  sizes: Sizes,
  tensors: EncodingAtRest['tensors'],
  suffix: string,
  types: readonly string[],
  shape: readonly number[],
): void {
  const tensor = tensors.get(suffix);
  if (tensor && types.includes(tensor.dtype) && tensor.shape.join() === shape.join()) return;
  const found = tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'none';
  refuse(sizes, `${suffix}: ${types.join(' or ')} [${shape.join(', ')}]`, found);
}

function refuse({ rows, columns }: Sizes, expected: string, found: string): never {
  throw new LapidaryError({
    what: 'this is no matrix of signs',
    where: `matrix [${rows}, ${columns}]`,
    expected,
    found,
  });
}
