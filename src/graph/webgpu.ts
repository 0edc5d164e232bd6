/**
 * Writes a graph with operators that ONNX Runtime's WebGPU provider (1.30) has kernels for: what it lacks runs on the
 * CPU instead, with every large tensor copied there and back (measured on an H100: FusedMatMul 55 ms where Transpose
 * and MatMul take 1.8 ms).
 */

import type { Attribute, Graph, Node, Value } from './graph.ts';
import {
  add,
  exp,
  log,
  matmul,
  mul,
  reciprocal,
  reduceMax,
  reduceMean,
  reduceSum,
  reshape,
  scalar,
  scale,
  sqrt,
  sub,
  transpose,
} from './ops.ts';
import { rewritten } from './rewrite.ts';

/** A copy that computes the same, with the same inputs, weights and outputs. */
export function forWebGpu(graph: Graph): Graph {
  return rewritten(graph, rewrite);
}

function rewrite(
  copy: Graph,
  node: Node,
  inputs: readonly (Value | undefined)[],
): readonly Value[] | undefined {
  const [a, b] = inputs as readonly Value[];
  const number = (attribute: Attribute) => (attribute as { readonly float: number }).float;
  switch (node.op) {
    case 'FusedMatMul': {
      const { transA, transB, alpha } = node.attributes;
      return [product(a, b, transA === 1, transB === 1, number(alpha))];
    }
    case 'LogSoftmax': {
      const axis = [node.attributes.axis as number];
      const shifted = sub(a, reduceMax(a, axis, true));
      return [sub(shifted, log(reduceSum(exp(shifted), axis, true)))];
    }
    case 'SimplifiedLayerNormalization': {
      const square = reduceMean(mul(a, a), [-1], true);
      const inverse = reciprocal(sqrt(add(square, scalar(copy, number(node.attributes.epsilon), a.dtype))));
      return [mul(mul(a, inverse), b), inverse];
    }
    default:
      return undefined;
  }
}

/** alpha op(a) op(b); the factor goes to the smaller of them, and of a and b the smaller is transposed. */
function product(a: Value, b: Value, transA: boolean, transB: boolean, alpha: number): Value {
  const scaled = (x: Value) => (alpha === 1 ? x : scale(x, alpha));
  const right = transB ? swap(b) : b;
  if (!transA) return size(a) < size(b) ? matmul(scaled(a), right) : matmul(a, scaled(right));
  if (size(a) <= size(b)) return sumOfParts(swap(scaled(a)), right);
  return swap(sumOfParts(swap(scaled(right)), a));
}

/** Inner sizes from which a product is cut, and the number of parts. */
const longInner = 4096;
const parts = 16;

/**
 * A product of two matrices with a long inner axis (a weight's gradient: all tokens of a batch) as a sum of shorter
 * ones, since the provider gives each tile of the result to one workgroup and there are few tiles.
 */
function sumOfParts(a: Value, b: Value): Value {
  const [rows, inner] = a.shape;
  if (a.shape.length !== 2 || b.shape.length !== 2 || typeof inner !== 'number') return matmul(a, b);
  if (inner < longInner || inner % parts !== 0) return matmul(a, b);
  const left = transpose(reshape(a, [rows, parts, inner / parts]), [1, 0, 2]);
  return reduceSum(matmul(left, reshape(b, [parts, inner / parts, b.shape[1]])), [0]);
}

function swap(x: Value): Value {
  const rank = x.shape.length;
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  return transpose(x, [...axes.slice(0, -2), rank - 1, rank - 2]);
}

const size = (x: Value): number =>
  x.shape.reduce<number>((total, dim) => total * (typeof dim === 'number' ? dim : 1), 1);
