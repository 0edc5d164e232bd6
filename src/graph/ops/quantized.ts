/** Operators on stored codes, and attention and convolutions with a cache: what exported models run. */

import type { QuantizedName } from './names.ts';
import type { DType } from '../../base/tensor.ts';
import type { Dim } from '../value.ts';
import type { OpDefinition } from './definition.ts';
import { axisOf, microsoft, onnx, refuse, required, sameShape, sameType, sum } from './definition.ts';

const stored = (what: string): string =>
  `${what} multiplies stored codes: train on the dense values, then encode`;

export const quantized: Record<QuantizedName, OpDefinition> = {
  MatMulNBits: {
    onnx: microsoft('MatMulNBits'),
    infer: (inputs, attributes) => {
      const [x, codes, scales] = required('MatMulNBits', inputs, 3);
      const { K, N, bits, block_size: block } = attributes as Readonly<Record<string, number>>;
      const blocks = Math.ceil(K / block);
      if (x.shape.at(-1) !== K) refuse('MatMulNBits', `the last axis is not ${K}`, inputs);
      const expected = [N, blocks, (block * bits) / 8];
      if (codes.dtype !== 'uint8' || codes.shape.join() !== expected.join()) {
        refuse('MatMulNBits', 'codes do not fit', inputs, `uint8 [${expected.join(', ')}]`);
      }
      const count = scales.shape.reduce<Dim>((a, b) => (a as number) * (b as number), 1);
      if (scales.dtype !== x.dtype || count !== N * blocks)
        refuse('MatMulNBits', 'scales do not fit', inputs, `${x.dtype} [${N}, ${blocks}]`);
      return [{ dtype: x.dtype, shape: [...x.shape.slice(0, -1), N] }];
    },
    gradient: stored('MatMulNBits'),
  },
  MatMulInteger: {
    onnx: onnx('MatMulInteger'),
    infer: (inputs) => {
      const [a, b] = required('MatMulInteger', inputs, 2);
      const bytes: readonly DType[] = ['int8', 'uint8'];
      if (!bytes.includes(a.dtype) || !bytes.includes(b.dtype))
        refuse('MatMulInteger', 'inputs are not 8-bit integers', inputs);
      if (b.shape.length !== 2 || a.shape.at(-1) !== b.shape[0])
        refuse('MatMulInteger', 'the second is no matrix with as many rows as the first has columns', inputs);
      return [{ dtype: 'int32', shape: [...a.shape.slice(0, -1), b.shape[1]] }];
    },
    gradient: stored('MatMulInteger'),
  },
  QuantizeLinear: {
    onnx: onnx('QuantizeLinear'),
    infer: (inputs) => {
      const [x, scale, zeroPoint] = required('QuantizeLinear', inputs, 3);
      if (scale.dtype !== x.dtype) refuse('QuantizeLinear', 'the scale is of another type', inputs);
      return [{ dtype: zeroPoint.dtype, shape: x.shape }];
    },
    gradient: 'QuantizeLinear gives codes: train on the values, then encode',
  },
  DequantizeLinear: {
    onnx: onnx('DequantizeLinear'),
    infer: (inputs, attributes) => {
      const [codes, scales] = required('DequantizeLinear', inputs, 2);
      if (scales.shape.length > 0) axisOf('DequantizeLinear', attributes.axis as number, codes.shape.length);
      const integer: readonly DType[] = ['int8', 'uint8', 'int4', 'uint4', 'int16', 'int32'];
      if (!integer.includes(codes.dtype)) refuse('DequantizeLinear', 'codes are not integers', inputs);
      return [{ dtype: scales.dtype, shape: codes.shape }];
    },
    gradient: stored('DequantizeLinear'),
  },
  GroupQueryAttention: {
    onnx: microsoft('GroupQueryAttention'),
    hints: ['present'],
    infer: (inputs, attributes) => {
      const [query, key, , pastKey, pastValue] = required('GroupQueryAttention', inputs, 7);
      const heads = attributes.num_heads as number;
      const keyValueHeads = attributes.kv_num_heads as number;
      const [width, keyWidth] = [query.shape[2], key.shape[2]];
      const stored = pastKey.shape[3];
      if (query.shape.length !== 3 || pastKey.shape.length !== 4 || typeof stored !== 'number') {
        refuse('GroupQueryAttention', 'query has not 3 or the cache not 4 axes', inputs);
      }
      // Two codes of four bits are a byte.
      const size = attributes.kv_cache_bit_width === 4 ? 2 * stored : stored;
      if (width !== heads * size || keyWidth !== keyValueHeads * size || heads % keyValueHeads !== 0) {
        refuse(
          'GroupQueryAttention',
          `widths do not hold ${heads} and ${keyValueHeads} heads of ${size}`,
          inputs,
        );
      }
      if (size % 8 !== 0) refuse('GroupQueryAttention', `head size ${size} is no multiple of 8`, inputs);
      const cache = [
        pastKey.shape[0],
        keyValueHeads,
        (attributes.present as Dim | undefined) ?? sum(pastKey.shape[2], query.shape[1]),
        stored,
      ];
      return [
        { dtype: query.dtype, shape: query.shape },
        { dtype: pastKey.dtype, shape: cache },
        { dtype: pastValue.dtype, shape: cache },
      ];
    },
    gradient: 'GroupQueryAttention is for exported files: build attention from plain nodes to differentiate',
  },
  CausalConvWithState: {
    onnx: microsoft('CausalConvWithState'),
    infer: (inputs) => {
      const [x, kernel] = required('CausalConvWithState', inputs, 2);
      const past = inputs[3] ?? refuse('CausalConvWithState', 'no state goes in', inputs);
      sameType('CausalConvWithState', inputs);
      const [channels, one, width] = kernel.shape;
      if (x.shape.length !== 3 || x.shape[1] !== channels || one !== 1 || typeof width !== 'number')
        refuse('CausalConvWithState', 'the kernel does not fit the channels', inputs);
      if (!sameShape(past.shape, [x.shape[0]!, channels, width - 1]))
        refuse('CausalConvWithState', `the state does not hold the last ${width - 1} values`, inputs);
      return [
        { dtype: x.dtype, shape: x.shape },
        { dtype: past.dtype, shape: past.shape },
      ];
    },
    gradient:
      'CausalConvWithState is for exported files: build convolutions from plain nodes to differentiate',
  },
};
