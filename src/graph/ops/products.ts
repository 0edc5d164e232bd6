/** Matrix products. */

import type { ProductName } from './names.ts';
import type { Shape, Value } from '../value.ts';
import type { OpDefinition } from './definition.ts';
import { broadcast, microsoft, onnx, refuse, required, sameType } from './definition.ts';
import { fusedMatmul, reshape, sumTo } from './functions.ts';

function productShape(op: string, a: Value, b: Value, transA: boolean, transB: boolean): Shape {
  if (a.shape.length < 2 || b.shape.length < 2) refuse(op, 'fewer than two axes', [a, b]);
  const [m, k] = transA ? a.shape.slice(-2).reverse() : a.shape.slice(-2);
  const [l, n] = transB ? b.shape.slice(-2).reverse() : b.shape.slice(-2);
  if (k !== l) refuse(op, `inner sizes ${k} and ${l} differ`, [a, b]);
  return [...broadcast(op, a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n];
}

function productGradient(a: Value, b: Value, g: Value, transA: boolean, transB: boolean, alpha: number) {
  const times = (x: Value, y: Value, tx: boolean, ty: boolean) =>
    fusedMatmul(x, y, { transA: tx, transB: ty, alpha });
  const toA = () => (transA ? times(b, g, transB, true) : times(g, b, false, !transB));
  const toB = () => (transB ? times(g, a, true, transA) : times(a, g, !transA, false));
  // A matrix shared by a batch: one product over all rows, instead of one a sequence and a sum.
  if (b.shape.length === 2 && a.shape.length > 2 && !transA) {
    const rows = (x: Value) => reshape(x, [-1, x.shape[x.shape.length - 1]]);
    const [flatA, flatG] = [rows(a), rows(g)];
    return [toA(), transB ? times(flatG, flatA, true, false) : times(flatA, flatG, true, false)];
  }
  return [sumTo(toA(), a.shape), sumTo(toB(), b.shape)];
}

export const products: Record<ProductName, OpDefinition> = {
  MatMul: {
    onnx: onnx('MatMul'),
    infer: (inputs) => {
      const [a, b] = required('MatMul', inputs, 2);
      return [{ dtype: sameType('MatMul', [a, b]), shape: productShape('MatMul', a, b, false, false) }];
    },
    gradient: ({ inputs }, [g]) => (g ? productGradient(inputs[0]!, inputs[1]!, g, false, false, 1) : []),
  },
  FusedMatMul: {
    onnx: microsoft('FusedMatMul'),
    infer: (inputs, { transA, transB }) => {
      const [a, b] = required('FusedMatMul', inputs, 2);
      return [
        {
          dtype: sameType('FusedMatMul', [a, b]),
          shape: productShape('FusedMatMul', a, b, transA === 1, transB === 1),
        },
      ];
    },
    gradient: ({ inputs, attributes: { transA, transB, alpha } }, [g]) =>
      g
        ? productGradient(
            inputs[0]!,
            inputs[1]!,
            g,
            transA === 1,
            transB === 1,
            (alpha as { readonly float: number }).float,
          )
        : [],
  },
};
