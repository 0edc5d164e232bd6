/**
 * A matrix in few bits plus what few bits hold badly, kept in float16: whole columns, or single weights. The product is
 * the sum of both; so are the values, and the matrix in few bits stands for nothing of what is kept.
 */

import { LapidaryError } from '../base/errors.ts';
import { floatToHalf, toFloat32 } from '../base/half.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  add,
  cast,
  cumSum,
  expand,
  gather,
  less,
  matmul,
  min,
  mul,
  range,
  reshape,
  scalar,
  scatterElements,
  scatterND,
  slice,
  transpose,
  unsqueeze,
  where,
  zeros,
} from '../graph/ops.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import { baseDescription } from './rounded.ts';

type Restore = (atRest: EncodingAtRest) => Encoding;
type Shape = Encoding['shape'];

/** Columns of a matrix [rows, columns] that are kept. */
export interface KeptColumns {
  /** Which, rising: [k]. */
  readonly columns: Int32Array;
  /** [k, rows]; rounded to float16. */
  readonly values: Float32Array;
}

/** Weights of a matrix [rows, columns] that are kept, row after row. */
export interface KeptWeights {
  /** Where each row's begin, and the end: [rows + 1]. */
  readonly starts: Int32Array;
  /** The column of each, rising in a row: [n]. */
  readonly columns: Int32Array;
  /** [n]; rounded to float16. */
  readonly values: Float32Array;
}

/**
 * The base plus whole columns. Where the base rounds its inputs, it does not see those of the columns that are kept.
 * Stored besides the base: int32 [k] which they are, float16 [k, rows] their values.
 * @throws LapidaryError on columns that the matrix does not have, or that do not rise
 */
export function withColumns(base: Encoding, { columns, values }: KeptColumns): Encoding {
  const count = columns.length;
  if (values.length !== count * base.shape[0]) {
    refuse(base.shape, `${count} columns of ${base.shape[0]}`, `${values.length} values`);
  }
  return columnsOf(
    base,
    stored('int32', [count], columns),
    stored('float16', [count, base.shape[0]], floatToHalf(values)),
  );
}

/**
 * The base plus single weights, stored as compressed rows: int32 [rows + 1] where each row begins, the column of each
 * (int16, or int32 beyond 32768 columns), and float16 values. A product reads each kept weight's input by its column and
 * adds up by rows, so that nothing of the matrix's size is ever formed; it takes n numbers a token meanwhile.
 * @throws LapidaryError on rows and columns that do not agree with the matrix, or columns that do not rise in a row
 */
export function withSparse(base: Encoding, { starts, columns, values }: KeptWeights): Encoding {
  const count = columns.length;
  if (values.length !== count) refuse(base.shape, `${count} values`, `${values.length}`);
  const short = indexType(base.shape) === 'int16';
  return sparseOf(base, {
    starts: stored('int32', [starts.length], starts),
    columns: stored(short ? 'int16' : 'int32', [count], short ? Int16Array.from(columns) : columns),
    values: stored('float16', [count], floatToHalf(values)),
  });
}

/** @param restore of the base */
export function restoreColumns(atRest: EncodingAtRest, restore: Restore): Encoding {
  const { tensors, shape } = atRest;
  const [columns, kept] = ['columns', 'kept'].map((suffix) => tensors.get(suffix));
  if (!columns || !kept) refuse(shape, 'columns and kept', [...tensors.keys()].join(', '));
  return columnsOf(restore(baseOf(atRest, ['columns', 'kept'])), columns, kept);
}

/** @param restore of the base */
export function restoreSparse(atRest: EncodingAtRest, restore: Restore): Encoding {
  const { tensors, shape } = atRest;
  const own = ['starts', 'columns', 'values'];
  const [starts, columns, values] = own.map((suffix) => tensors.get(suffix));
  if (!starts || !columns || !values) refuse(shape, own.join(', '), [...tensors.keys()].join(', '));
  return sparseOf(restore(baseOf(atRest, own)), { starts, columns, values });
}

const prefix = 'base.';

function baseOf({ description, shape, tensors }: EncodingAtRest, except: readonly string[]): EncodingAtRest {
  const rest = [...tensors].filter(([suffix]) => !except.includes(suffix));
  const stranger = rest.find(([suffix]) => !suffix.startsWith(prefix));
  if (stranger) refuse(shape, `tensors ${except.join(', ')} and ${prefix}...`, stranger[0]);
  return {
    description: baseDescription(description.base),
    shape,
    tensors: new Map(rest.map(([suffix, tensor]) => [suffix.slice(prefix.length), tensor])),
  };
}

/** What both have in common: everything but the products. */
function composite(
  base: Encoding,
  kind: string,
  label: string,
  own: readonly (readonly [string, Stored])[],
): Omit<Encoding, 'dense' | 'multiply' | 'gather'> {
  const prefixed = [...base.tensors].map(([suffix, tensor]) => [prefix + suffix, tensor] as const);
  return {
    description: { kind, base: JSON.stringify(base.description) },
    label: `${base.label}, ${label}`,
    shape: base.shape,
    bits: base.bits,
    ...(base.inputBits !== undefined && { inputBits: base.inputBits }),
    tensors: new Map([...prefixed, ...own]),
  };
}

const inBase =
  (place: Place): Place =>
  (suffix, tensor) =>
    place(prefix + suffix, tensor);

function columnsOf(base: Encoding, which: Stored, kept: Stored): Encoding {
  const [rows, width] = base.shape;
  const count = which.shape[0];
  checkType(base.shape, which, 'int32', [count]);
  checkType(base.shape, kept, 'float16', [count, rows]);
  checkRising(base.shape, intsOf(which), 0, count);
  const common = composite(base, 'columns', 'columns float16', [
    ['columns', which],
    ['kept', kept],
  ]);
  if (count === 0) return { ...common, ...onlyBase(base) };
  return {
    ...common,
    dense() {
      const values = base.dense();
      const columns = intsOf(which);
      toFloat32(kept).forEach((value, at) => {
        values[(at % rows) * width + columns[Math.floor(at / rows)]] += value;
      });
      return values;
    },
    multiply(x, place, options) {
      const at = place('columns', which);
      const chosen = matmul(gather(x, at, x.shape.length - 1), cast(place('kept', kept), x.dtype));
      // A token's scale is that of the inputs that are rounded.
      const rest = base.inputBits === undefined ? x : mul(x, without(at, count, width, x.dtype));
      return add(base.multiply(rest, inBase(place), options), chosen);
    },
    gather(ids, place, dtype) {
      const found = wideRows(base, ids, place);
      // [k, n] into rows of [columns, n].
      const chosen = gather(cast(place('kept', kept), 'float32'), reshape(ids, [-1]), 1);
      const at = unsqueeze(cast(place('columns', which), 'int64'), [-1]);
      const whole = transpose(scatterND(transpose(found), at, chosen, 'add'));
      return cast(reshape(whole, [...ids.shape, width]), dtype);
    },
  };
}

/** Rows of the base, [n, columns]; in float32, since engines do not add up float16 at indices. */
const wideRows = (base: Encoding, ids: Value, place: Place): Value =>
  reshape(base.gather(ids, inBase(place), 'float32'), [-1, base.shape[1]]);

/** 1 for every column, 0 for those at the indices: [width]. */
function without(at: Value, count: number, width: number, dtype: DType): Value {
  const ones = expand(scalar(at.graph, 1, dtype), [width]);
  return scatterElements(ones, at, zeros(at.graph, dtype, [count]), 0);
}

interface StoredWeights {
  readonly starts: Stored;
  readonly columns: Stored;
  readonly values: Stored;
}

function sparseOf(base: Encoding, { starts, columns, values }: StoredWeights): Encoding {
  const [rows, width] = base.shape;
  const count = values.shape[0];
  checkType(base.shape, starts, 'int32', [rows + 1]);
  checkType(base.shape, columns, indexType(base.shape), [count]);
  checkType(base.shape, values, 'float16', [count]);
  const bounds = intsOf(starts);
  if (bounds[0] !== 0 || bounds[rows] !== count) refuse(base.shape, `rows from 0 to ${count}`, 'others');
  const indices = intsOf(columns);
  let most = 0;
  for (let row = 0; row < rows; row++) {
    if (bounds[row + 1] < bounds[row])
      refuse(base.shape, 'rows one after the other', `row ${row} ends early`);
    checkRising(base.shape, indices, bounds[row], bounds[row + 1]);
    most = Math.max(most, bounds[row + 1] - bounds[row]);
  }
  const share = ((100 * count) / (rows * width)).toPrecision(2);
  const common = composite(base, 'sparse', `${Number(share)}% float16`, [
    ['starts', starts],
    ['columns', columns],
    ['values', values],
  ]);
  if (count === 0) return { ...common, ...onlyBase(base) };
  const at = (place: Place) => cast(place('columns', columns), 'int64');
  return {
    ...common,
    slow: 'weights that are kept apart are added up one by one',
    dense() {
      const dense = base.dense();
      const kept = toFloat32(values);
      for (let row = 0; row < rows; row++) {
        for (let i = bounds[row]; i < bounds[row + 1]; i++) dense[row * width + indices[i]] += kept[i];
      }
      return dense;
    },
    multiply(x, place, options) {
      const inputs = transpose(cast(reshape(x, [-1, width]), 'float32'));
      const weights = unsqueeze(cast(place('values', values), 'float32'), [-1]);
      const products = mul(gather(inputs, at(place)), weights);
      const sums = zeros(x.graph, 'float32', [rows, inputs.shape[1]]);
      const rowOf = unsqueeze(rowsOf(place('starts', starts), rows, count), [-1]);
      const y = reshape(transpose(scatterND(sums, rowOf, products, 'add')), [...x.shape.slice(0, -1), rows]);
      return add(base.multiply(x, inBase(place), options), cast(y, x.dtype));
    },
    gather(ids, place, dtype) {
      const found = wideRows(base, ids, place);
      const flat = reshape(ids, [-1]);
      const begin = cast(place('starts', starts), 'int64');
      const [first, end] = [flat, add(flat, scalar(ids.graph, 1, 'int64'))].map((row) =>
        unsqueeze(gather(begin, row), [-1]),
      );
      // As many as the fullest row has; those that are beyond a row's end add 0.
      const places = add(first, range(ids.graph, most));
      const inside = min(places, scalar(ids.graph, count - 1, 'int64'));
      const kept = gather(cast(place('values', values), 'float32'), inside);
      const added = where(less(places, end), kept, scalar(ids.graph, 0));
      const whole = scatterElements(found, gather(at(place), inside), added, 1, 'add');
      return cast(reshape(whole, [...ids.shape, width]), dtype);
    },
  };
}

/** The row of each kept weight, int64 [count]: how many rows but the first have begun by then. */
function rowsOf(starts: Value, rows: number, count: number): Value {
  const { graph } = starts;
  const begun = slice(starts, 0, 1, rows, rows - 1);
  const ones = expand(scalar(graph, 1, 'int32'), [rows - 1]);
  const marks = scatterElements(zeros(graph, 'int32', [count + 1]), begun, ones, 0, 'add');
  return cast(slice(cumSum(marks, 0), 0, 0, count, count), 'int64');
}

const onlyBase = (base: Encoding): Pick<Encoding, 'dense' | 'multiply' | 'gather'> => ({
  dense: base.dense,
  multiply: (x, place, options) => base.multiply(x, inBase(place), options),
  gather: (ids, place, dtype) => base.gather(ids, inBase(place), dtype),
});

const indexType = ([, columns]: Shape): 'int16' | 'int32' => (columns <= 2 ** 15 ? 'int16' : 'int32');

function intsOf(tensor: Stored): Int32Array {
  const { buffer } = tensor.bytes().slice();
  return tensor.dtype === 'int16' ? Int32Array.from(new Int16Array(buffer)) : new Int32Array(buffer);
}

function checkType(of: Shape, tensor: Stored, dtype: DType, shape: readonly number[]): void {
  const found = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  const expected = `${dtype} [${shape.join(', ')}]`;
  if (found !== expected) refuse(of, expected, found);
}

function checkRising(of: Shape, columns: Int32Array, start: number, end: number): void {
  for (let i = start, before = -1; i < end; before = columns[i++]) {
    if (!(columns[i] > before && columns[i] < of[1]))
      refuse(of, `rising columns below ${of[1]}`, `${columns[i]} after ${before}`);
  }
}

function refuse([rows, columns]: Shape, expected: string, found: string): never {
  throw new LapidaryError({
    what: 'what is kept beside a matrix does not fit it',
    where: `matrix [${rows}, ${columns}]`,
    expected,
    found,
  });
}
