/** Normalization over the last axis, and the rotary embedding. */

import type { NormName } from './names.ts';
import type { Value } from '../value.ts';
import type { Inputs, OpDefinition } from './definition.ts';
import { microsoft, onnx, refuse, required, sameShape, sameType } from './definition.ts';
import {
  fusedMatmul,
  matmul,
  mul,
  neg,
  reduceMean,
  reshape,
  rotary,
  rotaryInPart,
  scale,
  sub,
  sumTo,
} from './functions.ts';

function normShapes(op: string, inputs: Inputs) {
  const [x, weight] = required(op, inputs, 2);
  sameType(op, inputs);
  if (!sameShape(weight.shape, x.shape.slice(-1)))
    refuse(op, 'the weight does not fit the last axis', inputs);
  const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  return { full: { dtype: x.dtype, shape: x.shape }, statistic };
}

const rows = (x: Value): Value => (x.shape.length === 2 ? x : reshape(x, [-1, x.shape.at(-1)!]));

/**
 * y = x r w with r = 1 / rms(x), which the node itself returns; sums over the last axis and over rows are matrix
 * products with w and r, so that only g x is a whole tensor made for them.
 */
const rmsGradient: OpDefinition['gradient'] = ({ inputs, outputs }, [g]) => {
  if (!g) return [];
  const [x, weight] = inputs as readonly Value[];
  const inverse = outputs[1];
  const width = x.shape.at(-1)!;
  if (typeof width !== 'number') return refuse('gradient of rmsNorm', 'the last size is not known', inputs);
  const gx = mul(g, x);
  const along = matmul(gx, reshape(weight, [width, 1]));
  const cubed = mul(mul(inverse, inverse), inverse);
  const dx = sub(mul(mul(g, weight), inverse), mul(x, scale(mul(along, cubed), 1 / width)));
  const dWeight = reshape(fusedMatmul(rows(gx), rows(inverse), { transA: true }), [width]);
  return [dx, dWeight];
};

const layerNormGradient: OpDefinition['gradient'] = ({ inputs, outputs }, [g]) => {
  if (!g) return [];
  const [x, weight, bias] = inputs as readonly [Value, Value, Value | undefined];
  const [, mean, inverse] = outputs;
  const normed = mul(sub(x, mean), inverse);
  const h = mul(g, weight);
  const centered = sub(h, reduceMean(h, [-1], true));
  const dx = mul(inverse, sub(centered, mul(normed, reduceMean(mul(h, normed), [-1], true))));
  return [dx, sumTo(mul(g, normed), weight.shape), bias && sumTo(g, bias.shape)];
};

export const norms: Record<NormName, OpDefinition> = {
  SimplifiedLayerNormalization: {
    onnx: onnx('SimplifiedLayerNormalization'),
    optionalFrom: 1,
    infer: (inputs) => {
      const { full, statistic } = normShapes('SimplifiedLayerNormalization', inputs);
      return [full, statistic];
    },
    gradient: rmsGradient,
  },
  LayerNormalization: {
    onnx: onnx('LayerNormalization'),
    optionalFrom: 1,
    infer: (inputs) => {
      const { full, statistic } = normShapes('LayerNormalization', inputs);
      return [full, statistic, statistic];
    },
    gradient: layerNormGradient,
  },
  RotaryEmbedding: {
    onnx: microsoft('RotaryEmbedding'),
    infer: (inputs, { num_heads: heads }) => {
      const [x, positions, cos, sin] = required('RotaryEmbedding', inputs, 4);
      sameType('RotaryEmbedding', [x, cos, sin]);
      if (positions.dtype !== 'int64') refuse('RotaryEmbedding', 'positions are not int64', inputs);
      if (cos.shape.length !== 2 || !sameShape(cos.shape, sin.shape))
        refuse('RotaryEmbedding', 'cos and sin differ', inputs);
      if (x.shape.length !== 3 && x.shape.length !== 4)
        refuse('RotaryEmbedding', 'neither 3 nor 4 axes', inputs);
      const size = 2 * (cos.shape[1] as number);
      const last = x.shape.at(-1);
      const isPart = typeof heads === 'number' && typeof last === 'number';
      if (isPart && size <= (x.shape.length === 4 ? last : last / heads))
        return [{ dtype: x.dtype, shape: x.shape }];
      if (typeof last !== 'number' || (x.shape.length === 4 ? last !== size : last % size !== 0)) {
        refuse('RotaryEmbedding', `the last axis does not hold heads of ${size}`, inputs);
      }
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    // A rotation's gradient is the rotation back.
    gradient: ({ inputs, attributes }, [g]) => {
      const [, positions, cos, sin] = inputs as readonly Value[];
      const back = [positions, cos, neg(sin)] as const;
      const heads = attributes.num_heads as number | undefined;
      return [g && (heads === undefined ? rotary(g, ...back) : rotaryInPart(g, back, heads))];
    },
  },
};
