/**
 * 8-bit integers with a scale for each row, multiplied as integers (W8A8): y = (q_x q_w) s_x s_w, the sum exact in
 * int32. Inputs are rounded to 8 bits too, each token by its own largest size, or all by one scale that calibration
 * found. Codes are stored as the engine reads them: transposed, as unsigned numbers around 128.
 *
 * Native code and WebAssembly have fast products of such integers; ONNX Runtime's WebGPU provider (1.30) has none, so that
 * they run on the CPU there.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import {
  add,
  cast,
  gather,
  matMulInteger,
  mul,
  quantizeLinear,
  reshape,
  scalar,
  sub,
  transpose,
  unsqueeze,
} from '../graph/ops.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import { roundTokens } from './rounded.ts';

/** What a method chose for a matrix [rows, columns]: w = code * scale. */
export interface IntegerCodes {
  readonly rows: number;
  readonly columns: number;
  /** [rows, columns], -127 to 127. */
  readonly codes: Int8Array;
  /** [rows]. */
  readonly scales: Float32Array;
  /** One scale for all inputs, whose codes are -128 to 127; without it each token has its own. */
  readonly input?: number | undefined;
}

/** Stands for 0. */
const zero = 128;

/** @throws LapidaryError on sizes that do not agree, and scales that are not finite or, of inputs, not positive */
export function integers({ rows, columns, codes, scales, input }: IntegerCodes): Encoding {
  const shape = [rows, columns] as const;
  if (codes.length !== rows * columns || scales.length !== rows) {
    refuse(shape, `${rows * columns} codes, ${rows} scales`, `${codes.length}, ${scales.length}`);
  }
  const turned = new Uint8Array(codes.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      turned[column * rows + row] = codes[row * columns + column] + zero;
  }
  const tensors = new Map<string, Stored>([
    ['integers', stored('uint8', [columns, rows], turned)],
    ['scales', stored('float32', [rows], scales)],
  ]);
  if (input !== undefined) tensors.set('input', stored('float32', [1], Float32Array.of(input)));
  return restoreIntegers({ description: { kind: 'integers' }, shape, tensors });
}

/** From what they are at rest. @throws LapidaryError as `integers` does */
export function restoreIntegers({ shape, tensors }: EncodingAtRest): Encoding {
  const [rows, columns] = shape;
  const fixed = tensors.has('input');
  checkTensor(shape, tensors, 'integers', `uint8 [${columns}, ${rows}]`);
  checkTensor(shape, tensors, 'scales', `float32 [${rows}]`);
  if (fixed) checkTensor(shape, tensors, 'input', 'float32 [1]');
  if (tensors.size > (fixed ? 3 : 2)) refuse(shape, 'no other tensors', [...tensors.keys()].join(', '));
  if (!floatsOf(tensors.get('scales')!).every(Number.isFinite)) refuse(shape, 'finite scales', 'others');
  const input = fixed ? floatsOf(tensors.get('input')!)[0] : undefined;
  if (input !== undefined && !(input > 0 && Number.isFinite(input)))
    refuse(shape, 'a positive scale of inputs', `${input}`);
  return fromTensors({ shape, tensors });
}

/** What `integers` was given; undefined for other encodings. */
export function integerParts({ description, shape, tensors }: EncodingAtRest): IntegerCodes | undefined {
  if (description.kind !== 'integers') return undefined;
  const [rows, columns] = shape;
  const turned = tensors.get('integers')!.bytes();
  const codes = new Int8Array(turned.length);
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) codes[row * columns + column] = turned[column * rows + row] - zero;
  }
  const input = tensors.get('input');
  return {
    rows,
    columns,
    codes,
    scales: floatsOf(tensors.get('scales')!),
    ...(input && { input: floatsOf(input)[0] }),
  };
}

function fromTensors({ shape, tensors }: Pick<Encoding, 'shape' | 'tensors'>): Encoding {
  const [, columns] = shape;
  const fixed = tensors.has('input');
  const put = (place: Place, suffix: string): Value => place(suffix, tensors.get(suffix)!);
  const description = { kind: 'integers' };
  return {
    description,
    label: `8-bit, whole row, inputs 8-bit${fixed ? '' : ' by token'}`,
    shape,
    bits: 8,
    inputBits: 8,
    tensors,
    dense() {
      const { codes, scales } = integerParts({ description, shape, tensors })!;
      const values = new Float32Array(codes.length);
      for (let at = 0; at < values.length; at++) values[at] = codes[at] * scales[Math.floor(at / columns)];
      return values;
    },
    multiply(x, place) {
      const middle = scalar(x.graph, zero, 'uint8');
      const { codes, scales } = fixed ? rounded(x, put(place, 'input')) : tokens(x);
      const sums = cast(matMulInteger(codes, put(place, 'integers'), middle, middle), 'float32');
      const byRow = put(place, 'scales');
      // One scale for all inputs goes into those of the rows, which engines do at load.
      const y = fixed ? mul(sums, mul(scales, byRow)) : mul(mul(sums, scales), byRow);
      return cast(y, x.dtype);
    },
    gather(ids, place, dtype) {
      // Along the second axis, since codes are stored transposed: [columns, ...ids].
      const turned = gather(put(place, 'integers'), ids, 1);
      const axes = ids.shape.map((_, axis) => axis + 1);
      const codes = sub(cast(transpose(turned, [...axes, 0]), 'int32'), scalar(ids.graph, zero, 'int32'));
      const scales = unsqueeze(gather(put(place, 'scales'), ids), [-1]);
      return cast(mul(cast(codes, 'float32'), scales), dtype);
    },
  };
}

/** Each token by its own scale: uint8 [..., columns] and scales [..., 1]. */
function tokens(x: Value) {
  const { codes, scales } = roundTokens(x, 8);
  return { codes: cast(add(codes, scalar(x.graph, zero)), 'uint8'), scales };
}

/** All by one scale, float32 [1]. */
function rounded(x: Value, input: Value) {
  const scales = reshape(input, []);
  return { codes: quantizeLinear(cast(x, 'float32'), scales, scalar(x.graph, zero, 'uint8')), scales };
}

const floatsOf = (tensor: Stored): Float32Array => new Float32Array(tensor.bytes().slice().buffer);

function checkTensor(
  shape: Encoding['shape'],
  tensors: EncodingAtRest['tensors'],
  suffix: string,
  expected: string,
): void {
  const tensor = tensors.get(suffix);
  const found = tensor && `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  if (found !== expected) refuse(shape, `${suffix}: ${expected}`, found ?? 'none');
}

function refuse([rows, columns]: Encoding['shape'], expected: string, found: string): never {
  throw new LapidaryError({
    what: 'these are no 8-bit integers with a scale for each row',
    where: `matrix [${rows}, ${columns}]`,
    expected,
    found,
  });
}
