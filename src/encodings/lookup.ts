/**
 * Rows of a matrix of grouped integers in plain operators. The engine has one for it (GatherBlockQuantized), but not in
 * its WebAssembly build; and the rows of a sequence are few, so that nothing is lost.
 */

import type { DType } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { cast, floats, gather, mul, reshape, scalar, slice, sub, unsqueeze } from '../graph/ops.ts';
import type { Width } from './pack.ts';
import { unpack } from './pack.ts';

export interface PackedRows {
  /** uint8 [rows, blocks, bytes of a block]. */
  readonly codes: Value;
  /** [rows, groups]; groups are the blocks, or one is the whole row. */
  readonly scales: Value;
  /** uint8 [rows, bytes of a row's zero points]. */
  readonly zeros?: Value | undefined;
}

/** (code - zero) * scale of the rows at ids [...], as [..., columns] in `dtype`. */
export function lookup(
  { codes, scales, zeros }: PackedRows,
  ids: Value,
  { width, columns, dtype }: { readonly width: Width; readonly columns: number; readonly dtype: DType },
): Value {
  const groups = scales.shape[1] as number;
  const grouped = reshape(unpacked(gather(codes, ids), width, dtype), [...ids.shape, groups, -1]);
  const zero = zeros
    ? unsqueeze(slice(unpacked(gather(zeros, ids), width, dtype), -1, 0, groups, groups), [-1])
    : scalar(ids.graph, 2 ** (width - 1), dtype);
  // Cast first, which engines do at load: a GPU without float16 could not even look them up.
  const factors = unsqueeze(gather(cast(scales, dtype), ids), [-1]);
  const values = reshape(mul(sub(grouped, zero), factors), [...ids.shape, -1]);
  return values.shape.at(-1) === columns ? values : slice(values, -1, 0, columns, columns);
}

/** uint8 [..., n] as the codes in it, low bits first: [..., n * 8 / width]; a table says which a byte holds. */
function unpacked(bytes: Value, width: Width, dtype: DType): Value {
  if (width === 8) return cast(bytes, dtype);
  const count = 8 / width;
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  // In float32, which GPUs without float16 can look up.
  const table = floats(bytes.graph, unpack(all, 1, count, width), [256, count]);
  const codes = cast(gather(table, cast(bytes, 'int32')), dtype);
  return reshape(codes, [...bytes.shape.slice(0, -1), (bytes.shape.at(-1) as number) * count]);
}
