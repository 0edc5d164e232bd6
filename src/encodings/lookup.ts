/**
 * Rows of a matrix of grouped integers in plain operators. The engine has one for it (GatherBlockQuantized), but not in
 * its WebAssembly build; and the rows of a sequence are few, so that nothing is lost.
 */

import type { DType } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  cast,
  div,
  floats,
  gather,
  mul,
  reshape,
  scalar,
  scale,
  slice,
  sub,
  unsqueeze,
} from '../graph/ops.ts';
import type { Width } from './pack.ts';

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
  const grouped = reshape(unpacked(gather(codes, ids), width), [...ids.shape, groups, -1]);
  const zero = zeros
    ? unsqueeze(slice(unpacked(gather(zeros, ids), width), -1, 0, groups, groups), [-1])
    : scalar(ids.graph, 2 ** (width - 1), 'int32');
  // Cast first, which engines do at load: a GPU without float16 could not even look them up.
  const factors = unsqueeze(gather(cast(scales, dtype), ids), [-1]);
  const values = reshape(mul(cast(sub(grouped, zero), dtype), factors), [...ids.shape, -1]);
  return values.shape.at(-1) === columns ? values : slice(values, -1, 0, columns, columns);
}

/** uint8 [..., n] as the int32 codes in it, low bits first: [..., n * 8 / width]. */
function unpacked(bytes: Value, width: Width): Value {
  const whole = cast(bytes, 'int32');
  if (width === 8) return whole;
  const steps = Array.from({ length: 8 / width }, (_, k) => 2 ** (k * width));
  const above = (factor: number) =>
    div(
      unsqueeze(whole, [-1]),
      floats(
        bytes.graph,
        steps.map((step) => step * factor),
        [steps.length],
        'int32',
      ),
    );
  const codes = sub(above(1), scale(above(2 ** width), 2 ** width));
  return reshape(codes, [...bytes.shape.slice(0, -1), (bytes.shape.at(-1) as number) * steps.length]);
}
