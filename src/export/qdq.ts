/**
 * Grouped integers in operators of ONNX alone: DequantizeLinear in blocks, then MatMul. ONNX Runtime on the CPU makes one
 * MatMulNBits of the two, with inputs rounded to eight bits unless its option session.qdq_matmulnbits_accuracy_level says
 * 0; engines without its operators run them as they stand. Opset 21.
 */

import { floatToHalf } from '../base/half.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { UnpackedGroups } from '../encodings/grouped.ts';
import { ungrouped } from '../encodings/grouped.ts';
import { turned } from '../encodings/words.ts';
import { cast, dequantizeLinear, matmul } from '../graph/ops.ts';
import { made } from './safetensors/integers.ts';

/**
 * The same matrix with such products. Codes of two and three bits are held in four; rows are looked up as before, because
 * no operator of ONNX gathers from blocks. Encodings that are no grouped integers stay as they are.
 */
export function asQdq(encoding: Encoding): Encoding {
  if (encoding.description.kind !== 'grouped') return encoding;
  const [rows, columns] = encoding.shape;
  const zeroPoints = encoding.tensors.has('zeros');
  const wide = encoding.bits === 8;
  const groups = encoding.tensors.get('scales')!.shape[1];
  const type = wide ? (zeroPoints ? 'uint8' : 'int8') : zeroPoints ? 'uint4' : 'int4';
  const read = (): UnpackedGroups => ungrouped(encoding)!;
  const pack = (values: Uint8Array) => (wide ? values : nibbles(values));
  const codes = made(type, [columns, rows], () => {
    const { codes: all, zeros } = read();
    // Without zero points of their own all are the same, and codes are counted from there.
    return pack(turned(zeroPoints ? all : all.map((code) => code - zeros[0]), columns));
  });
  const shape = groups === 1 ? [rows] : [groups, rows];
  const half = encoding.tensors.get('scales')!.dtype === 'float16';
  const scales = made(half ? 'float16' : 'float32', shape, () => {
    const values = turned(read().scales, groups);
    return half ? floatToHalf(values) : values;
  });
  const zeros = made(type, shape, () => pack(turned(read().zeros, groups)));
  // A scale for the whole row is one for each column of the turned matrix.
  const options = groups === 1 ? { axis: 1 } : { axis: 0, block: blockOf(encoding) };
  return {
    ...encoding,
    multiply: (x, place) => {
      const weight = dequantizeLinear(
        place('qdq_codes', codes),
        cast(place('qdq_scales', scales), x.dtype),
        zeroPoints ? place('qdq_zeros', zeros) : undefined,
        options,
      );
      return matmul(x, weight);
    },
  };
}

/** Weights that share a scale. */
const blockOf = ({ description }: Encoding): number => description.group as number;

/** Two codes a byte, the first in the low half. */
function nibbles(values: Uint8Array): Uint8Array {
  return Uint8Array.from(
    { length: Math.ceil(values.length / 2) },
    (_, i) => (values[2 * i] & 15) | ((values[2 * i + 1] ?? 0) << 4),
  );
}
