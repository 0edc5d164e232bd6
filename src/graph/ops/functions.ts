/** The functions that models are written with: each adds a node or a few. Their rules stand in the files beside. */

import type { DType } from '../../base/tensor.ts';
import type { Dim, Shape, Value } from '../value.ts';
import type { OpName } from './names.ts';
import { ints, scalar, shapeTensor, sizeOf } from './constants.ts';
import { withGradient } from './custom.ts';
import { axisOf, product, quotient, sameShape } from './definition.ts';

const one = (op: OpName, ...inputs: readonly Value[]): Value => inputs[0].graph.add(op, inputs)[0];

export const add = (a: Value, b: Value): Value => one('Add', a, b);
export const sub = (a: Value, b: Value): Value => one('Sub', a, b);
export const mul = (a: Value, b: Value): Value => one('Mul', a, b);
export const div = (a: Value, b: Value): Value => one('Div', a, b);
export const pow = (a: Value, b: Value): Value => one('Pow', a, b);
export const max = (a: Value, b: Value): Value => one('Max', a, b);
export const min = (a: Value, b: Value): Value => one('Min', a, b);
export const equal = (a: Value, b: Value): Value => one('Equal', a, b);
export const less = (a: Value, b: Value): Value => one('Less', a, b);
export const greater = (a: Value, b: Value): Value => one('Greater', a, b);
export const lessOrEqual = (a: Value, b: Value): Value => one('LessOrEqual', a, b);
export const greaterOrEqual = (a: Value, b: Value): Value => one('GreaterOrEqual', a, b);
export const and = (a: Value, b: Value): Value => one('And', a, b);
export const or = (a: Value, b: Value): Value => one('Or', a, b);
export const not = (x: Value): Value => one('Not', x);
export const neg = (x: Value): Value => one('Neg', x);
export const exp = (x: Value): Value => one('Exp', x);
export const log = (x: Value): Value => one('Log', x);
export const sqrt = (x: Value): Value => one('Sqrt', x);
export const reciprocal = (x: Value): Value => one('Reciprocal', x);
export const abs = (x: Value): Value => one('Abs', x);
export const sigmoid = (x: Value): Value => one('Sigmoid', x);
export const tanh = (x: Value): Value => one('Tanh', x);
export const erf = (x: Value): Value => one('Erf', x);
export const sin = (x: Value): Value => one('Sin', x);
export const cos = (x: Value): Value => one('Cos', x);
export const relu = (x: Value): Value => one('Relu', x);
/** No gradient, as the next one. */
export const floor = (x: Value): Value => one('Floor', x);
/** To the nearest whole number, halves to the even one. */
export const round = (x: Value): Value => one('Round', x);
export const where = (condition: Value, a: Value, b: Value): Value => one('Where', condition, a, b);
/** x in another element type; x itself where it has it. */
export const cast = (x: Value, dtype: DType): Value =>
  x.dtype === dtype ? x : x.graph.add('Cast', [x], { to: dtype })[0];
/** The same values under a shape whose names the caller knows better ("past+time" is "total"). */
export const identity = (x: Value, shape: Shape): Value =>
  sameShape(x.shape, shape) ? x : x.graph.add('Identity', [x], {}, shape)[0];
/** x times a number. */
export const scale = (x: Value, factor: number): Value => mul(x, scalar(x.graph, factor, x.dtype));
/** x sigmoid(x) = y, whose derivative is s + y - y s with s = sigmoid(x). */
/** cap tanh(x / cap): within ± cap. */
export const softcap = (x: Value, cap: number): Value => scale(tanh(scale(x, 1 / cap)), cap);

export function silu(x: Value): Value {
  const s = sigmoid(x);
  const y = mul(x, s);
  return withGradient(y, [x], (g) => [mul(g, add(s, sub(y, mul(y, s))))]);
}

/** x Phi(x), exact ("erf") or by the tanh formula of Hendrycks and Gimpel (2016). */
export function gelu(x: Value, form: 'erf' | 'tanh' = 'erf'): Value {
  const number = (value: number) => scalar(x.graph, value, x.dtype);
  const inner =
    form === 'erf'
      ? erf(mul(x, number(Math.SQRT1_2)))
      : tanh(mul(mul(x, number(Math.sqrt(2 / Math.PI))), add(mul(mul(x, x), number(0.044715)), number(1))));
  return mul(mul(x, number(0.5)), add(inner, number(1)));
}

/** The end of an axis, for `slice`. */
export const toEnd = Number.MAX_SAFE_INTEGER;

/** x under another shape of as many elements; one size may be -1, names may be any that the graph knows. */
export function reshape(x: Value, dims: Shape): Value {
  const others = dims.filter((dim) => dim !== -1);
  let shape = dims;
  if (others.length < dims.length) {
    const rest = quotient('Reshape', x.shape, others) ?? `${product(x.shape)}/${product(others)}`;
    shape = dims.map((dim) => (dim === -1 ? rest : dim));
  }
  if (sameShape(shape, x.shape)) return x;
  const source = reshapedFrom.get(x) ?? x;
  if (sameShape(shape, source.shape)) return source;
  const [reshaped] = x.graph.add('Reshape', [source, reshapeTarget(source, dims)], {}, shape);
  reshapedFrom.set(reshaped, source);
  return reshaped;
}

/** Reshapes do not chain: the sizes of the first one's input are often still there to be copied. */
const reshapedFrom = new WeakMap<Value, Value>();

/** 0 copies a size of x, -1 is the one that follows from the rest; only where that is not enough, sizes are computed. */
function reshapeTarget(x: Value, dims: Shape): Value {
  const copied = dims.map((dim, i) => (typeof dim === 'string' && dim === x.shape[i] ? 0 : dim));
  const names = copied.filter((dim) => typeof dim === 'string');
  if (names.length === 0) return ints(x.graph, copied as readonly number[]);
  if (names.length === 1 && !copied.includes(-1)) {
    return ints(
      x.graph,
      copied.map((dim) => (typeof dim === 'string' ? -1 : dim)),
    );
  }
  return shapeTensor(x.graph, copied);
}

/** Permutes the axes; without a permutation swaps the last two. */
export function transpose(x: Value, perm?: readonly number[]): Value {
  const rank = x.shape.length;
  const order = perm ?? [...Array(Math.max(rank - 2, 0)).keys(), rank - 1, rank - 2];
  if (order.every((axis, i) => axis === i)) return x;
  return x.graph.add('Transpose', [x], { perm: order })[0];
}

/**
 * Elements start to end (excluded) of an axis; negative ones count from the end, `toEnd` is the end. Either may be a
 * tensor int64 [1]; `size` is then the size that results.
 */
export function slice(x: Value, axis: number, start: number | Value, end: number | Value, size?: Dim): Value {
  const at = axisOf('Slice', axis, x.shape.length);
  const tensor = (value: number | Value) => (typeof value === 'number' ? ints(x.graph, [value]) : value);
  const length = size ?? sliceLength(x.shape[at], start, end);
  const shape = x.shape.map((dim, i) => (i === at ? length : dim));
  return x.graph.add('Slice', [x, tensor(start), tensor(end), ints(x.graph, [at])], {}, shape)[0];
}

function sliceLength(dim: Dim, start: number | Value, end: number | Value): Dim {
  if (typeof start !== 'number' || typeof end !== 'number') return 'slice';
  if (typeof dim === 'number') {
    const clamp = (value: number) => Math.min(Math.max(value < 0 ? value + dim : value, 0), dim);
    return Math.max(clamp(end) - clamp(start), 0);
  }
  if (start >= 0 === end >= 0 && end < toEnd) return Math.max(end - start, 0);
  if (start < 0 && end >= toEnd) return -start;
  if (start === 0 && end >= toEnd) return dim;
  const cut = start - Math.min(end, 0);
  return cut === 0 ? dim : `${dim}-${cut}`;
}

/** Joins values along an axis; their other sizes are equal. */
export function concat(values: readonly Value[], axis: number): Value {
  return values.length === 1 ? values[0] : values[0].graph.add('Concat', values, { axis })[0];
}

/** Parts of the given sizes along an axis. */
export function split(x: Value, sizes: readonly number[], axis: number): readonly Value[] {
  return x.graph.add('Split', [x, ints(x.graph, sizes)], { axis });
}

/** Repeats axes of size 1 until x has the shape; its names may be any that the graph knows. */
export function expand(x: Value, shape: Shape): Value {
  if (sameShape(x.shape, shape)) return x;
  // An axis that x already has stays as it is under a 1, so that its size need not be computed.
  const from = shape.length - x.shape.length;
  const target = shape.map((dim, i) => (typeof dim === 'string' && x.shape[i - from] === dim ? 1 : dim));
  return x.graph.add('Expand', [x, shapeTensor(x.graph, target)], {}, shape)[0];
}

export const unsqueeze = (x: Value, axes: readonly number[]): Value =>
  x.graph.add('Unsqueeze', [x, ints(x.graph, axes)])[0];
export const squeeze = (x: Value, axes: readonly number[]): Value =>
  x.graph.add('Squeeze', [x, ints(x.graph, axes)])[0];
/** Sizes of x as int64 [rank], or of its axes from `start` to `end`. */
export const shapeOf = (x: Value, start = 0, end = x.shape.length): Value =>
  x.graph.add('Shape', [x], { start, end })[0];
/** 0, 1, ... up to a number or a size that the graph knows, as int64. */
export function range(graph: Value['graph'], size: Dim): Value {
  const end = typeof size === 'number' ? scalar(graph, size, 'int64') : squeeze(sizeOf(graph, size), [0]);
  return graph.add('Range', [scalar(graph, 0, 'int64'), end, scalar(graph, 1, 'int64')], {}, [size])[0];
}

/** Undoes broadcasting: sums x over the axes that `shape` does not have or has as 1. */
export function sumTo(x: Value, shape: Shape): Value {
  if (sameShape(x.shape, shape)) return x;
  const extra = x.shape.length - shape.length;
  const axes = x.shape
    .map((_, i) => i)
    .filter((i) => i < extra || (shape[i - extra] === 1 && x.shape[i] !== 1));
  if (axes.length === 0) return x;
  const leading = axes.every((axis) => axis < extra);
  const summed = reduceSum(x, axes, !leading);
  return leading || extra === 0 ? summed : squeeze(summed, [...Array(extra).keys()]);
}

const reduction =
  (op: OpName) =>
  (x: Value, axes: readonly number[], keep = false): Value =>
    x.graph.add(op, [x, ints(x.graph, axes)], { keepdims: keep ? 1 : 0 })[0];

export const reduceSum = reduction('ReduceSum');
export const reduceMean = reduction('ReduceMean');
export const reduceMax = reduction('ReduceMax');
export const softmax = (x: Value, axis = -1): Value => x.graph.add('Softmax', [x], { axis })[0];
export const logSoftmax = (x: Value, axis = -1): Value => x.graph.add('LogSoftmax', [x], { axis })[0];
export const argMax = (x: Value, axis = -1, keep = false): Value =>
  x.graph.add('ArgMax', [x], { axis, keepdims: keep ? 1 : 0 })[0];
/** The k largest along an axis, largest first, and their indices (int64). */
export const topK = (x: Value, k: number, axis = -1): readonly Value[] =>
  x.graph.add('TopK', [x, ints(x.graph, [k])], { axis });
/** Running sum along an axis. */
export const cumSum = (x: Value, axis: number): Value =>
  x.graph.add('CumSum', [x, scalar(x.graph, axis, 'int64')])[0];

export interface ProductOptions {
  /** Takes the last two axes of a, or of b, swapped. */
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** Factor of the product. */
  readonly alpha?: number;
}

/** NumPy's matmul: the last two axes multiply, the others broadcast. */
export const matmul = (a: Value, b: Value): Value => a.graph.add('MatMul', [a, b])[0];

/** alpha op(a) op(b) without transposed copies. */
export function fusedMatmul(
  a: Value,
  b: Value,
  { transA = false, transB = false, alpha = 1 }: ProductOptions = {},
): Value {
  if (!transA && !transB && alpha === 1) return matmul(a, b);
  const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
  return a.graph.add('FusedMatMul', [a, b], attributes)[0];
}

/** Rows of data: the axis is replaced by the shape of the indices (int64 or int32). */
export const gather = (data: Value, indices: Value, axis = 0): Value =>
  data.graph.add('Gather', [data, indices], { axis })[0];
/** One element for each index, which has data's rank: out[i][j] = data[i][indices[i][j]] for axis 1. */
export const gatherElements = (data: Value, indices: Value, axis: number): Value =>
  data.graph.add('GatherElements', [data, indices], { axis })[0];
/** data with the elements at the indices replaced by updates, or with the updates added to them. */
export const scatterElements = (
  data: Value,
  indices: Value,
  updates: Value,
  axis: number,
  reduction: 'none' | 'add' = 'none',
): Value => data.graph.add('ScatterElements', [data, indices, updates], { axis, reduction })[0];
/** data with slices replaced, or added to: indices [..., k] name the first k coordinates of each. */
export const scatterND = (
  data: Value,
  indices: Value,
  updates: Value,
  reduction: 'none' | 'add' = 'none',
): Value => data.graph.add('ScatterND', [data, indices, updates], { reduction })[0];

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis (Zhang and Sennrich, 2019). */
export const rmsNorm = (x: Value, weight: Value, epsilon: number): Value =>
  x.graph.add('SimplifiedLayerNormalization', [x, weight], {
    axis: -1,
    epsilon: { float: epsilon },
    stash_type: 1,
  })[0];

/** (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis. */
export const layerNorm = (x: Value, weight: Value, bias: Value | undefined, epsilon: number): Value =>
  x.graph.add('LayerNormalization', [x, weight, bias], {
    axis: -1,
    epsilon: { float: epsilon },
    stash_type: 1,
  })[0];

/**
 * Rotates pairs (i, i + size/2) of each head by cos and sin of its position (Su et al., 2021).
 * @param x [batch, heads, time, headSize], or [batch, time, heads * headSize]
 * @param positions int64 [batch, time], or [1]: the first one's position
 * @param cos float [positions, size / 2]; sin the same
 */
export function rotary(x: Value, positions: Value, cos: Value, sin: Value): Value {
  return x.graph.add('RotaryEmbedding', [x, positions, cos, sin])[0];
}

/** The same, where of each of so many heads only the first channels are rotated, two for each of the cosines' columns. */
export function rotaryInPart(
  x: Value,
  [positions, cos, sin]: readonly [Value, Value, Value],
  heads: number,
): Value {
  const attributes = { num_heads: heads, rotary_embedding_dim: 2 * (cos.shape[1] as number) };
  return x.graph.add('RotaryEmbedding', [x, positions, cos, sin], attributes)[0];
}

/**
 * softmax(scores) values: the middle of attention, [..., queries, keys] times [..., keys, size], without broadcasting.
 * Its gradient sums over the size where softmax's own would sum over the keys (Dao et al. 2022, equation 4).
 */
export function attend(scores: Value, values: Value): Value {
  const weights = softmax(scores);
  const mixed = matmul(weights, values);
  return withGradient(mixed, [scores, values], (g) => {
    const shared = reduceSum(mul(g, mixed), [-1], true);
    const toScores = mul(weights, sub(fusedMatmul(g, values, { transB: true }), shared));
    return [toScores, fusedMatmul(weights, g, { transA: true })];
  });
}
