import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import type { DType } from '../base/tensor.ts';
import { byteLength, stored } from '../base/tensor.ts';
import { gradient } from './gradient.ts';
import type { Dim, Shape, Value } from './graph.ts';
import { Graph } from './graph.ts';
import type { OpName } from './ops.ts';
import * as ops from './ops.ts';
import { table } from './ops.ts';
import type { TensorType } from './session.ts';
import { openSession, tensor } from './session.ts';

/** What the names in these graphs stand for when they run. */
const sizes: Readonly<Record<string, number>> = { batch: 2, time: 3, past: 4, total: 7 };

/** The number that a size comes to: names, sums, differences and products of them. */
function sizeAt(dim: Dim): number {
  if (typeof dim === 'number') return dim;
  const text = dim.replaceAll(/[a-z]+/g, (name) => String(sizes[name]));
  expect(text).toMatch(/^[\d+*()-]+$/);
  return Function(`return ${text}`)() as number;
}

interface Input {
  readonly dtype?: TensorType;
  readonly shape: Shape;
}

interface Case {
  readonly op: OpName;
  readonly what?: string;
  readonly inputs: readonly (Input | Shape)[];
  readonly build: (...inputs: readonly Value[]) => Value | readonly Value[];
}

const x: Shape = ['batch', 'time', 4];
const ints = (shape: Shape): Input => ({ dtype: 'int64', shape });
const int32 = (shape: Shape): Input => ({ dtype: 'int32', shape });
const packed = (value: Value, dtype: DType, shape: readonly number[]): Value =>
  value.graph.constant(stored(dtype, shape, new Uint8Array(byteLength(dtype, shape))));

const unary = (op: OpName, build: (x: Value) => Value): Case => ({ op, inputs: [x], build });
const binary = (op: OpName, build: (a: Value, b: Value) => Value): readonly Case[] => [
  { op, what: 'row', inputs: [x, [4]], build },
  {
    op,
    what: 'both sides',
    inputs: [
      ['batch', 1, 4],
      ['time', 1],
    ],
    build,
  },
];

const cases: readonly Case[] = [
  unary('Neg', ops.neg),
  unary('Exp', ops.exp),
  unary('Round', ops.round),
  unary('Floor', ops.floor),
  unary('Log', ops.log),
  unary('Sqrt', ops.sqrt),
  unary('Reciprocal', ops.reciprocal),
  unary('Abs', ops.abs),
  unary('Sigmoid', ops.sigmoid),
  unary('Tanh', ops.tanh),
  unary('Erf', ops.erf),
  unary('Sin', ops.sin),
  unary('Cos', ops.cos),
  unary('Relu', ops.relu),
  ...binary('Add', ops.add),
  ...binary('Sub', ops.sub),
  ...binary('Mul', ops.mul),
  ...binary('Div', ops.div),
  ...binary('Pow', ops.pow),
  ...binary('Max', ops.max),
  ...binary('Min', ops.min),
  ...binary('Equal', ops.equal),
  ...binary('Less', ops.less),
  ...binary('Greater', ops.greater),
  ...binary('LessOrEqual', ops.lessOrEqual),
  ...binary('GreaterOrEqual', ops.greaterOrEqual),
  ...binary('And', (a, b) => ops.and(ops.less(a, b), ops.less(b, a))),
  ...binary('Or', (a, b) => ops.or(ops.less(a, b), ops.less(b, a))),
  ...binary('Not', (a, b) => ops.not(ops.less(a, b))),
  ...binary('Where', (a, b) => ops.where(ops.less(a, b), a, b)),
  {
    op: 'Cast',
    inputs: [x],
    build: (v) => [ops.cast(v, 'float16'), ops.cast(v, 'int64'), ops.cast(v, 'bool')],
  },
  { op: 'Identity', inputs: [['total', 4]], build: (v) => ops.identity(v, ['past+time', 4]) },
  { op: 'ReduceSum', inputs: [x], build: (v) => [ops.reduceSum(v, [1]), ops.reduceSum(v, [0, -1], true)] },
  { op: 'ReduceMean', inputs: [x], build: (v) => [ops.reduceMean(v, [-1]), ops.reduceMean(v, [0, 1, 2])] },
  { op: 'ReduceMax', inputs: [x], build: (v) => [ops.reduceMax(v, [0]), ops.reduceMax(v, [2], true)] },
  { op: 'ArgMax', inputs: [x], build: (v) => [ops.argMax(v), ops.argMax(v, 1, true)] },
  { op: 'TopK', inputs: [x], build: (v) => ops.topK(v, 2) },
  { op: 'CumSum', inputs: [x], build: (v) => ops.cumSum(v, 1) },
  { op: 'Softmax', inputs: [x], build: (v) => ops.softmax(v, 1) },
  { op: 'LogSoftmax', inputs: [x], build: (v) => ops.logSoftmax(v) },
  {
    op: 'Reshape',
    what: 'splitting an axis',
    inputs: [x],
    build: (v) => ops.reshape(v, ['batch', 'time', 2, 2]),
  },
  { op: 'Reshape', what: 'joining axes', inputs: [x], build: (v) => ops.reshape(v, [-1, 4]) },
  { op: 'Reshape', what: 'swapping names', inputs: [x], build: (v) => ops.reshape(v, ['time', 'batch', 4]) },
  {
    op: 'Reshape',
    what: 'to names of another tensor',
    inputs: [['batch', 'time', 2, 2], x],
    build: (v, like) => [
      ops.reshape(ops.exp(ops.reshape(v, [-1, 4])), ['batch', 'time', 4]),
      ops.add(v, ops.reshape(like, v.shape)),
    ],
  },
  { op: 'Transpose', inputs: [x], build: (v) => [ops.transpose(v), ops.transpose(v, [2, 0, 1])] },
  {
    op: 'Slice',
    inputs: [x],
    build: (v) => [
      ops.slice(v, 1, 1, ops.toEnd),
      ops.slice(v, 1, -1, ops.toEnd),
      ops.slice(v, 1, 0, -1),
      ops.slice(v, 1, 1, -1),
      ops.slice(v, -1, 1, 3),
      ops.slice(v, 2, -3, 9),
    ],
  },
  {
    op: 'Concat',
    inputs: [
      ['batch', 'past'],
      ['batch', 'time'],
    ],
    build: (a, b) => [ops.concat([a, b], 1), ops.concat([a, a], 0)],
  },
  { op: 'Split', inputs: [x], build: (v) => ops.split(v, [1, 3], 2) },
  { op: 'Expand', inputs: [['time', 1]], build: (v) => [ops.expand(v, [5, 'time', 4])] },
  { op: 'Unsqueeze', inputs: [x], build: (v) => ops.unsqueeze(v, [0, -1]) },
  { op: 'Squeeze', inputs: [['batch', 1, 4, 1]], build: (v) => ops.squeeze(v, [1, -1]) },
  { op: 'Shape', inputs: [x], build: (v) => [ops.shapeOf(v), ops.shapeOf(v, 1, 2)] },
  { op: 'Range', inputs: [x], build: (v) => [ops.range(v.graph, 'time'), ops.range(v.graph, 5)] },
  {
    op: 'Gather',
    inputs: [[5, 4], ints(['batch', 'time'])],
    build: (v, i) => [ops.gather(v, i), ops.gather(v, i, 1)],
  },
  {
    op: 'GatherElements',
    inputs: [x, ints(['batch', 'time', 1])],
    build: (v, i) => ops.gatherElements(v, i, 2),
  },
  {
    op: 'ScatterElements',
    inputs: [x, ints(['batch', 'time', 1]), ['batch', 'time', 1]],
    build: (v, i, u) => ops.scatterElements(v, i, u, 2, 'add'),
  },
  {
    op: 'ScatterND',
    inputs: [[5, 4], ints(['time', 1]), ['time', 4]],
    build: (v, i, u) => ops.scatterND(v, i, u, 'add'),
  },
  { op: 'MatMul', inputs: [x, [4, 5]], build: ops.matmul },
  {
    op: 'MatMul',
    what: 'broadcast',
    inputs: [
      ['batch', 1, 'time', 4],
      [6, 4, 'past'],
    ],
    build: ops.matmul,
  },
  { op: 'FusedMatMul', inputs: [x, [5, 4]], build: (a, b) => ops.fusedMatmul(a, b, { transB: true }) },
  {
    op: 'FusedMatMul',
    what: 'both',
    inputs: [
      ['batch', 4, 'time'],
      ['batch', 5, 4],
    ],
    build: (a, b) => ops.fusedMatmul(a, b, { transA: true, transB: true }),
  },
  {
    op: 'SimplifiedLayerNormalization',
    inputs: [x, [4]],
    build: (v, w) => everyOutput(ops.rmsNorm(v, w, 1e-5)),
  },
  {
    op: 'LayerNormalization',
    inputs: [x, [4], [4]],
    build: (v, w, b) => everyOutput(ops.layerNorm(v, w, b, 1e-5)),
  },
  {
    op: 'RotaryEmbedding',
    inputs: [['batch', 5, 'time', 4], ints(['batch', 'time']), [9, 2], [9, 2]],
    build: ops.rotary,
  },
  {
    op: 'RotaryEmbedding',
    what: 'heads side by side',
    inputs: [['batch', 'time', 8], ints(['batch', 'time']), [9, 2], [9, 2]],
    build: ops.rotary,
  },
  {
    op: 'MatMulNBits',
    inputs: [
      ['batch', 'time', 20],
      [5, 2],
    ],
    build: (v, scales) =>
      ops.matMulNBits(
        v,
        { codes: packed(v, 'uint8', [5, 2, 8]), scales },
        { rows: 5, columns: 20, bits: 4, block: 16 },
      ),
  },
  {
    op: 'MatMulInteger',
    inputs: [x],
    build: (v) => {
      const zero = packed(v, 'uint8', []);
      return ops.matMulInteger(ops.cast(v, 'uint8'), packed(v, 'uint8', [4, 5]), zero, zero);
    },
  },
  {
    op: 'QuantizeLinear',
    inputs: [x, []],
    build: (v, scale) => ops.quantizeLinear(v, scale, packed(v, 'int8', [])),
  },
  {
    op: 'DequantizeLinear',
    inputs: [[2, 5]],
    build: (scales) => [
      ops.dequantizeLinear(packed(scales, 'int4', [32, 5]), scales, undefined, { axis: 0, block: 16 }),
      ops.dequantizeLinear(packed(scales, 'int8', [32, 5]), scales, undefined, { axis: 0, block: 16 }),
    ],
  },
  {
    op: 'GroupQueryAttention',
    inputs: [[1, 'time', 64], [1, 'time', 32], [1, 'past', 32], int32([1]), int32([])],
    build: (query, key, past, lengths, total) => {
      const cache = ops.transpose(ops.reshape(past, [1, 'past', 2, 16]), [0, 2, 1, 3]);
      return ops.groupQueryAttention(
        { query, key, value: key, pastKey: cache, pastValue: cache, lengths, total },
        { heads: 4, keyValueHeads: 2, present: 'total' },
      );
    },
  },
  {
    op: 'CausalConvWithState',
    inputs: [
      ['batch', 6, 'time'],
      [6, 1, 4],
      ['batch', 6, 3],
    ],
    build: (v, kernel, past) => ops.causalConvolution(v, kernel, undefined, past),
  },
];

/** All outputs of the node that made a value, the optional ones too. */
function everyOutput(value: Value): readonly Value[] {
  return value.graph.nodes.find(({ outputs }) => outputs.includes(value))!.outputs;
}

function feedFor({ dtype = 'float32', shape }: Input) {
  const concrete = shape.map(sizeAt);
  const count = concrete.reduce((a, b) => a * b, 1);
  if (dtype === 'int64') return tensor(dtype, concrete, new BigInt64Array(count));
  // Lengths of GroupQueryAttention: seven tokens so far.
  if (dtype === 'int32')
    return tensor(dtype, concrete, new Int32Array(count).fill(shape.length === 0 ? 7 : 6));
  return tensor('float32', concrete, new Float32Array(count).fill(1.5));
}

const inputOf = (input: Input | Shape): Input => ('shape' in input ? input : { shape: input });

describe('types and shapes are those that the engine gives', () => {
  for (const { op, what, inputs, build } of cases) {
    it(`${op}${what ? ` (${what})` : ''}`, async () => {
      const graph = new Graph();
      const described = inputs.map(inputOf);
      const built = build(
        ...described.map(({ dtype = 'float32', shape }, i) => graph.input(`x${i}`, dtype, shape)),
      );
      const outputs = Array.isArray(built) ? (built as readonly Value[]) : [built as Value];
      for (const [i, output] of outputs.entries()) graph.output(`y${i}`, output);
      expect(graph.nodes.some((node) => node.op === op)).toBe(true);
      const session = await openSession(graph);
      const results = await session.run(
        Object.fromEntries(described.map((input, i) => [`x${i}`, feedFor(input)])),
      );
      await session.release();
      for (const [i, { dtype, shape }] of outputs.entries()) {
        const { type, dims } = results[`y${i}`];
        expect({ type, dims }).toEqual({ type: dtype, dims: shape.map(sizeAt) });
      }
    });
  }

  it('and every operator has a case', () => {
    const covered = new Set(cases.map(({ op }) => op));
    expect(Object.keys(table).filter((name) => !covered.has(name as OpName))).toEqual([]);
  });
});

describe('wrong inputs are refused with both shapes', () => {
  const graph = new Graph();
  const a = graph.input('a', 'float32', ['batch', 4]);
  const b = graph.input('b', 'float32', ['time', 4]);
  const i = graph.input('i', 'int64', ['batch', 4]);
  const cube = graph.input('cube', 'float32', [2, 3, 4]);
  const wrong: readonly (readonly [string, () => unknown, RegExp])[] = [
    ['two names', () => ops.add(a, b), /broadcast.*\[batch, 4\] and \[time, 4\]/s],
    ['two types', () => ops.add(a, i), /differ in type.*float32.*int64/s],
    ['inner sizes', () => ops.matmul(a, b), /inner sizes 4 and time/],
    ['element counts', () => ops.reshape(cube, [5, 5]), /element counts differ|is not divided/],
    [
      'element counts beside a name',
      () => ops.reshape(a, ['batch', 5]),
      /element counts differ|is not divided/,
    ],
    ['a permutation', () => ops.transpose(cube, [0, 0, 1]), /no permutation/],
    ['an axis', () => ops.softmax(cube, 3), /no axis 3/],
    ['other axes of concat', () => ops.concat([cube, a], 0), /other axes differ/],
    ['parts of split', () => ops.split(cube, [1, 1], 2), /do not fill/],
    ['squeezed sizes', () => ops.squeeze(cube, [0]), /is not 1/],
    ['float indices', () => ops.gather(cube, cube), /not integers/],
    ['a norm of another width', () => ops.rmsNorm(cube, ops.floats(graph, [1, 2, 3]), 1e-5), /does not fit/],
    ['an unknown name', () => ops.range(graph, 'nowhere'), /no tensor of the graph has a size "nowhere"/],
    ['a value of another graph', () => ops.add(a, new Graph().input('c', 'float32', [4])), /another graph/],
  ];
  for (const [what, build, message] of wrong) {
    it(what, () => expect(build).toThrow(message));
  }
});

describe('an operator without a gradient says why', () => {
  for (const [name, { gradient: rule }] of Object.entries(table)) {
    if (typeof rule === 'string') it(name, () => expect(rule).toMatch(new RegExp(`^${name} .{10}`)));
  }

  it('when the loss depends on it', () => {
    const graph = new Graph();
    const v = graph.input('v', 'float32', [4]);
    const [best] = ops.topK(v, 1);
    const ask = () => gradient(ops.reduceSum(best, [0]), [v]);
    expect(ask).toThrow(LapidaryError);
    expect(ask).toThrow(/TopK has no gradient.*take its indices and gather/s);
  });

  it('but not when it is beside the path', () => {
    const graph = new Graph();
    const v = graph.input('v', 'float32', [4]);
    const mask = ops.cast(ops.greater(v, ops.scalar(graph, 0)), 'float32');
    expect(gradient(ops.reduceSum(ops.mul(v, mask), [0]), [v])).toHaveLength(1);
  });
});
