/**
 * Writes a graph as ONNX Runtime's CPU code runs it fastest. The gradient of a weight matrix is a product over all
 * tokens whose left side is read by columns; the engine's kernel for that is a sixth slower than the plain one, and
 * it turns a transpose that feeds a product back into it. So the narrower side is transposed once, behind a reshape.
 */

import type { Graph, Node, Value } from './graph.ts';
import { fusedMatmul, reshape, transpose } from './ops.ts';
import { rewritten } from './rewrite.ts';

/** Below this width a transpose costs more than it saves. */
const narrowest = 64;

/** A graph that computes the same, with the same inputs, weights and outputs; itself where nothing is gained. */
export function forCpu(graph: Graph): Graph {
  if (!graph.nodes.some((node) => isColumnProduct(node, node.inputs))) return graph;
  const turned = turner();
  return rewritten(graph, (_, node, inputs) => {
    if (!isColumnProduct(node, inputs)) return undefined;
    const [a, b] = inputs as readonly Value[];
    const alpha = (node.attributes.alpha as { readonly float: number }).float;
    const aIsNarrower = width(a) <= width(b);
    const product = aIsNarrower ? fusedMatmul(turned(a), b, { alpha }) : fusedMatmul(turned(b), a, { alpha });
    return [aIsNarrower ? product : transpose(product)];
  });
}

/** alpha a^T b of two matrices. */
function isColumnProduct({ op, attributes }: Node, [a, b]: readonly (Value | undefined)[]): boolean {
  if (op !== 'FusedMatMul' || attributes.transA !== 1 || attributes.transB !== 0) return false;
  return a?.shape.length === 2 && b?.shape.length === 2 && Math.min(width(a), width(b)) >= narrowest;
}

/** Columns of a matrix; 0 where they are not known. */
const width = ({ shape: [, columns] }: Value): number => (typeof columns === 'number' ? columns : 0);

/** [rows, columns] as [columns, rows], once for all products that need it. */
function turner(): (x: Value) => Value {
  const known = new Map<Value, Value>();
  return (x) => {
    const [rows, columns] = x.shape;
    const turned =
      known.get(x) ?? reshape(transpose(reshape(x, [1, rows, columns]), [2, 0, 1]), [columns, rows]);
    known.set(x, turned);
    return turned;
  };
}
