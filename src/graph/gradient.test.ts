import { describe, expect, it } from 'vitest';
import { gradient } from './gradient.ts';
import type { Shape, Value } from './graph.ts';
import { Graph } from './graph.ts';
import type { OpName } from './ops.ts';
import * as ops from './ops.ts';
import { table } from './ops.ts';
import type { Feeds, Tensor } from './session.ts';
import { openSession, tensor } from './session.ts';

type Build = (...inputs: readonly Value[]) => Value;

interface Case {
  readonly op: OpName;
  readonly what?: string;
  readonly inputs: readonly (readonly number[])[];
  readonly build: Build;
  /** The same function of operators that the engine's CPU code has in float64, where `build`'s own is not. */
  readonly double?: Build;
  /** Values lie between these; -1.5 and 1.5 without it. */
  readonly between?: readonly [number, number];
  /** Input sizes as the graph sees them, where they are names. */
  readonly declared?: readonly Shape[];
}

/** Numbers that look random and are the same everywhere, at least 0.01 apart from each other's ties. */
function values(count: number, seed: number, [low, high]: readonly [number, number]): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    const fraction = (Math.sin((i + 1) * 12.9898 + seed * 78.233) * 43758.5453) % 1;
    return low + (high - low) * Math.abs(fraction);
  });
}

const ids = (x: Value, shape: readonly number[], list: readonly number[]): Value =>
  x.graph.constant(ops.storedNumbers('int64', shape, list));
const table2 = (x: Value, seed: number): Value =>
  ops.floats(x.graph, values(10, seed, [-1, 1]), [5, 2], x.dtype);

/** erf by its Maclaurin series, to 1e-12 for |x| < 1.5. */
function erfSeries(x: Value): Value {
  const square = ops.mul(x, x);
  let sum = ops.scalar(x.graph, 0, x.dtype);
  for (let n = 30; n >= 0; n--) {
    const factor = (n % 2 === 0 ? 1 : -1) / (factorial(n) * (2 * n + 1));
    sum = ops.add(ops.mul(sum, square), ops.scalar(x.graph, factor, x.dtype));
  }
  return ops.scale(ops.mul(sum, x), 2 / Math.sqrt(Math.PI));
}
const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
const geluReference = (x: Value): Value =>
  ops.mul(ops.scale(x, 0.5), ops.add(erfSeries(ops.scale(x, Math.SQRT1_2)), ops.scalar(x.graph, 1, x.dtype)));
const siluReference = (x: Value): Value =>
  ops.div(x, ops.add(ops.exp(ops.neg(x)), ops.scalar(x.graph, 1, x.dtype)));

const swap = (x: Value): Value => ops.transpose(x);
const rmsReference = (x: Value, w: Value): Value => {
  const mean = ops.reduceMean(ops.mul(x, x), [-1], true);
  return ops.mul(ops.div(x, ops.sqrt(ops.add(mean, ops.scalar(x.graph, 0.01, x.dtype)))), w);
};
const layerReference = (x: Value, w: Value, b: Value): Value => {
  const centered = ops.sub(x, ops.reduceMean(x, [-1], true));
  const variance = ops.reduceMean(ops.mul(centered, centered), [-1], true);
  const root = ops.sqrt(ops.add(variance, ops.scalar(x.graph, 0.01, x.dtype)));
  return ops.add(ops.mul(ops.div(centered, root), w), b);
};
/** The rotary embedding of [batch, heads, time, 4] at positions, from its definition. */
function rotaryReference(x: Value, positions: Value, cos: Value, sin: Value): Value {
  const at = (cache: Value) => ops.unsqueeze(ops.gather(cache, positions), [1]);
  const [first, second] = ops.split(x, [2, 2], -1);
  const [c, s] = [at(cos), at(sin)];
  return ops.concat(
    [ops.sub(ops.mul(first, c), ops.mul(second, s)), ops.add(ops.mul(second, c), ops.mul(first, s))],
    -1,
  );
}

const positive = [0.5, 2] as const;

const cases: readonly Case[] = [
  { op: 'Neg', inputs: [[3, 4]], build: ops.neg },
  { op: 'Exp', inputs: [[3, 4]], build: ops.exp },
  { op: 'Log', inputs: [[3, 4]], build: ops.log, between: positive },
  { op: 'Sqrt', inputs: [[3, 4]], build: ops.sqrt, between: positive },
  { op: 'Reciprocal', inputs: [[3, 4]], build: ops.reciprocal, between: positive },
  { op: 'Abs', inputs: [[3, 4]], build: ops.abs },
  { op: 'Sigmoid', inputs: [[3, 4]], build: ops.sigmoid },
  { op: 'Tanh', inputs: [[3, 4]], build: ops.tanh },
  { op: 'Erf', inputs: [[3, 4]], build: ops.erf, double: erfSeries },
  { op: 'Sin', inputs: [[3, 4]], build: ops.sin },
  { op: 'Cos', inputs: [[3, 4]], build: ops.cos },
  { op: 'Relu', inputs: [[3, 4]], build: ops.relu },
  { op: 'Erf', what: 'gelu', inputs: [[3, 4]], build: (x) => ops.gelu(x, 'erf'), double: geluReference },
  { op: 'Tanh', what: 'gelu', inputs: [[3, 4]], build: (x) => ops.gelu(x, 'tanh') },
  {
    op: 'Softmax',
    what: 'attend',
    inputs: [
      [2, 3, 4],
      [2, 4, 5],
    ],
    build: ops.attend,
    double: (s, v) => ops.matmul(ops.softmax(s), v),
  },
  { op: 'Sigmoid', what: 'silu', inputs: [[3, 4]], build: ops.silu, double: siluReference },
  {
    op: 'Add',
    inputs: [
      [3, 4],
      [3, 4],
    ],
    build: ops.add,
  },
  { op: 'Add', what: 'row', inputs: [[2, 3, 4], [4]], build: ops.add },
  {
    op: 'Add',
    what: 'column',
    inputs: [
      [2, 3, 1],
      [3, 4],
    ],
    build: ops.add,
  },
  {
    op: 'Sub',
    inputs: [
      [3, 4],
      [3, 1],
    ],
    build: ops.sub,
  },
  {
    op: 'Mul',
    inputs: [
      [3, 4],
      [1, 4],
    ],
    build: ops.mul,
  },
  { op: 'Mul', what: 'by itself', inputs: [[3, 4]], build: (x) => ops.mul(x, x) },
  { op: 'Div', inputs: [[3, 4], [4]], build: ops.div, between: positive },
  { op: 'Pow', inputs: [[3, 4], [4]], build: ops.pow, between: positive },
  { op: 'Max', inputs: [[3, 4], [4]], build: ops.max },
  { op: 'Min', inputs: [[3, 4], [4]], build: ops.min },
  { op: 'Where', inputs: [[3, 4], [4]], build: (a, b) => ops.where(ops.greater(a, b), ops.mul(a, a), b) },
  { op: 'Cast', inputs: [[3, 4]], build: (x) => ops.cast(x, 'float64'), double: (x) => x },
  { op: 'Identity', inputs: [[3, 4]], build: (x) => ops.identity(x, ['rows', 4]) },
  { op: 'ReduceSum', inputs: [[2, 3, 4]], build: (x) => ops.reduceSum(x, [0, 2]) },
  { op: 'ReduceSum', what: 'keeping', inputs: [[2, 3, 4]], build: (x) => ops.reduceSum(x, [-2], true) },
  { op: 'ReduceMean', inputs: [[2, 3, 4]], build: (x) => ops.reduceMean(x, [1, 2]) },
  {
    op: 'ReduceMean',
    what: 'symbolic',
    inputs: [[2, 3, 4]],
    declared: [['a', 'b', 4]],
    build: (x) => ops.reduceMean(x, [0, -2], true),
  },
  { op: 'ReduceMax', inputs: [[2, 3, 4]], build: (x) => ops.reduceMax(x, [-1]) },
  { op: 'CumSum', inputs: [[2, 3, 4]], build: (x) => ops.cumSum(x, 1) },
  { op: 'Softmax', inputs: [[2, 3, 4]], build: (x) => ops.softmax(x) },
  { op: 'Softmax', what: 'axis 1', inputs: [[2, 3, 4]], build: (x) => ops.softmax(x, 1) },
  { op: 'LogSoftmax', inputs: [[2, 3, 4]], build: (x) => ops.logSoftmax(x) },
  { op: 'Reshape', inputs: [[2, 3, 4]], build: (x) => ops.reshape(x, [6, -1]) },
  {
    op: 'Reshape',
    what: 'symbolic',
    inputs: [[2, 3, 4]],
    declared: [['batch', 'time', 4]],
    build: (x) => ops.reshape(ops.reshape(x, [-1, 4]), ['batch', 'time', 2, 2]),
  },
  { op: 'Transpose', inputs: [[2, 3, 4]], build: (x) => ops.transpose(x, [2, 0, 1]) },
  { op: 'Slice', inputs: [[2, 5, 4]], build: (x) => ops.slice(x, 1, 1, -1) },
  { op: 'Slice', what: 'last', inputs: [[2, 5, 4]], build: (x) => ops.slice(x, 1, -2, ops.toEnd) },
  {
    op: 'Slice',
    what: 'symbolic',
    inputs: [[2, 5, 4]],
    declared: [['batch', 'time', 4]],
    build: (x) => ops.slice(x, 1, 1, ops.toEnd),
  },
  {
    op: 'Concat',
    inputs: [
      [2, 3],
      [2, 1],
    ],
    build: (a, b) => ops.concat([a, b, a], 1),
  },
  {
    op: 'Concat',
    what: 'symbolic',
    inputs: [
      [2, 3],
      [2, 2],
    ],
    declared: [
      [2, 'past'],
      [2, 'time'],
    ],
    build: (a, b) => ops.concat([a, b], 1),
  },
  {
    op: 'Split',
    inputs: [[2, 5]],
    build: (x) => ops.mul(ops.split(x, [2, 1, 2], 1)[0], ops.split(x, [2, 1, 2], 1)[2]),
  },
  { op: 'Split', what: 'one part unused', inputs: [[2, 5]], build: (x) => ops.split(x, [2, 3], 1)[1] },
  { op: 'Expand', inputs: [[3, 1]], build: (x) => ops.expand(x, [2, 3, 4]) },
  { op: 'Unsqueeze', inputs: [[3, 4]], build: (x) => ops.unsqueeze(x, [0, -1]) },
  { op: 'Squeeze', inputs: [[3, 1, 4, 1]], build: (x) => ops.squeeze(x, [1, -1]) },
  { op: 'Gather', inputs: [[5, 3]], build: (x) => ops.gather(x, ids(x, [2, 3], [0, 4, 4, 1, 0, 4])) },
  {
    op: 'Gather',
    what: 'axis 1',
    inputs: [[2, 5, 3]],
    build: (x) => ops.gather(x, ids(x, [2, 2], [0, 4, 4, 1]), 1),
  },
  { op: 'Gather', what: 'one index', inputs: [[2, 5]], build: (x) => ops.gather(x, ids(x, [], [3]), 1) },
  {
    op: 'GatherElements',
    inputs: [[2, 5]],
    build: (x) => ops.gatherElements(x, ids(x, [2, 3], [0, 4, 4, 1, 0, 1]), 1),
  },
  {
    op: 'ScatterElements',
    inputs: [
      [2, 5],
      [2, 2],
    ],
    build: (x, u) => ops.scatterElements(x, ids(x, [2, 2], [0, 4, 4, 1]), u, 1),
  },
  {
    op: 'ScatterElements',
    what: 'adding',
    inputs: [
      [2, 5],
      [2, 2],
    ],
    build: (x, u) => ops.scatterElements(x, ids(x, [2, 2], [4, 4, 4, 1]), u, 1, 'add'),
  },
  {
    op: 'ScatterND',
    inputs: [
      [5, 3],
      [2, 3],
    ],
    build: (x, u) => ops.scatterND(x, ids(x, [2, 1], [4, 1]), u),
  },
  {
    op: 'ScatterND',
    what: 'adding',
    inputs: [
      [5, 3],
      [2, 3],
    ],
    build: (x, u) => ops.scatterND(x, ids(x, [2, 1], [4, 4]), u, 'add'),
  },
  {
    op: 'MatMul',
    inputs: [
      [3, 4],
      [4, 2],
    ],
    build: ops.matmul,
  },
  {
    op: 'MatMul',
    what: 'batched',
    inputs: [
      [2, 3, 4],
      [2, 4, 2],
    ],
    build: ops.matmul,
  },
  {
    op: 'MatMul',
    what: 'shared',
    inputs: [
      [2, 3, 4],
      [4, 2],
    ],
    build: ops.matmul,
  },
  {
    op: 'MatMul',
    what: 'broadcast',
    inputs: [
      [2, 1, 3, 4],
      [1, 3, 4, 2],
    ],
    build: ops.matmul,
  },
  ...[
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ].flatMap(([transA, transB]): Case[] => [
    {
      op: 'FusedMatMul',
      what: `${transA} ${transB}`,
      inputs: [transA ? [4, 3] : [3, 4], transB ? [2, 4] : [4, 2]],
      build: (a, b) => ops.fusedMatmul(a, b, { transA, transB, alpha: 0.5 }),
      double: (a, b) => ops.scale(ops.matmul(transA ? swap(a) : a, transB ? swap(b) : b), 0.5),
    },
    {
      op: 'FusedMatMul',
      what: `batched ${transA} ${transB}`,
      inputs: [transA ? [2, 4, 3] : [2, 3, 4], transB ? [2, 2, 4] : [2, 4, 2]],
      build: (a, b) => ops.fusedMatmul(a, b, { transA, transB, alpha: 2 }),
      double: (a, b) => ops.scale(ops.matmul(transA ? swap(a) : a, transB ? swap(b) : b), 2),
    },
  ]),
  {
    op: 'FusedMatMul',
    what: 'weights over [batch, time]',
    inputs: [
      [2, 3, 4],
      [5, 4],
    ],
    declared: [
      ['batch', 'time', 4],
      [5, 4],
    ],
    build: (x, w) => ops.fusedMatmul(x, w, { transB: true }),
    double: (x, w) => ops.matmul(x, swap(w)),
  },
  {
    op: 'SimplifiedLayerNormalization',
    inputs: [[2, 3, 4], [4]],
    build: (x, w) => ops.rmsNorm(x, w, 0.01),
    double: rmsReference,
  },
  {
    op: 'LayerNormalization',
    inputs: [[2, 3, 4], [4], [4]],
    build: (x, w, b) => ops.layerNorm(x, w, b, 0.01),
    double: layerReference,
  },
  {
    op: 'RotaryEmbedding',
    inputs: [[2, 2, 3, 4]],
    build: (x) => ops.rotary(x, ids(x, [2, 3], [0, 1, 2, 2, 3, 4]), table2(x, 1), table2(x, 2)),
    double: (x) => rotaryReference(x, ids(x, [2, 3], [0, 1, 2, 2, 3, 4]), table2(x, 1), table2(x, 2)),
  },
];

/** The sum of a function's outputs, each with a weight of its own, so that no two errors cancel. */
function lossOf(output: Value, count: number): Value {
  const weights = ops.floats(output.graph, values(count, 99, [0.5, 1.5]), [count], output.dtype);
  return ops.reduceSum(ops.mul(ops.reshape(ops.cast(output, weights.dtype), [count]), weights), [0]);
}

async function outputCount(
  { inputs, declared }: Case,
  build: Build,
  dtype: 'float32' | 'float64',
): Promise<number> {
  const graph = new Graph();
  const output = build(...inputs.map((shape, i) => graph.input(`x${i}`, dtype, declared?.[i] ?? shape)));
  graph.output('y', output);
  const session = await openSession(graph);
  const { y } = await session.run(
    feeds(
      inputs,
      dtype,
      inputs.map((shape, i) => values(size(shape), i, [0.5, 1])),
    ),
  );
  await session.release();
  return y.size;
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function feeds(
  shapes: readonly (readonly number[])[],
  dtype: 'float32' | 'float64',
  data: readonly Float64Array[],
): Feeds {
  const array = (list: Float64Array) => (dtype === 'float64' ? list : Float32Array.from(list));
  return Object.fromEntries(shapes.map((shape, i) => [`x${i}`, tensor(dtype, shape, array(data[i]))]));
}

const numbers = (value: Tensor): readonly number[] => Array.from(value.data as Float64Array, Number);

/** (f(x + h) - f(x - h)) / 2h for every element, in float64. */
async function centralDifferences(
  each: Case,
  data: readonly Float64Array[],
  count: number,
): Promise<number[][]> {
  const graph = new Graph();
  const inputs = each.inputs.map((shape, i) => graph.input(`x${i}`, 'float64', each.declared?.[i] ?? shape));
  graph.output('loss', lossOf((each.double ?? each.build)(...inputs), count));
  const session = await openSession(graph);
  const step = 1e-5;
  const at = async () => numbers((await session.run(feeds(each.inputs, 'float64', data))).loss)[0];
  const slopes: number[][] = [];
  for (const list of data) {
    const row: number[] = [];
    for (let i = 0; i < list.length; i++) {
      const x = list[i];
      list[i] = x + step;
      const above = await at();
      list[i] = x - step;
      row.push((above - (await at())) / (2 * step));
      list[i] = x;
    }
    slopes.push(row);
  }
  await session.release();
  return slopes;
}

async function computed(
  each: Case,
  dtype: 'float32' | 'float64',
  data: readonly Float64Array[],
  count: number,
): Promise<readonly (readonly number[])[]> {
  const graph = new Graph();
  const inputs = each.inputs.map((shape, i) => graph.input(`x${i}`, dtype, each.declared?.[i] ?? shape));
  for (const [i, value] of gradient(lossOf(each.build(...inputs), count), inputs).entries())
    graph.output(`g${i}`, value);
  const session = await openSession(graph);
  const results = await session.run(feeds(each.inputs, dtype, data));
  await session.release();
  return inputs.map((_, i) => numbers(results[`g${i}`]));
}

describe('gradients agree with central differences in float64', () => {
  for (const each of cases) {
    it(`${each.op}${each.what ? ` (${each.what})` : ''}`, async () => {
      // Operators without a float64 kernel on the CPU are differentiated in float32.
      const dtype = each.double ? 'float32' : 'float64';
      const data = each.inputs.map((shape, i) => values(size(shape), i, each.between ?? [-1.5, 1.5]));
      const count = await outputCount(each, each.double ?? each.build, 'float64');
      const expected = await centralDifferences(each, data, count);
      const found = await computed(each, dtype, data, count);
      const tolerance = dtype === 'float64' ? 1e-7 : 3e-5;
      for (const [i, list] of found.entries()) {
        expect(list.length).toBe(expected[i].length);
        for (const [j, value] of list.entries()) {
          expect(Math.abs(value - expected[i][j]), `input ${i}, element ${j}`).toBeLessThanOrEqual(
            tolerance * Math.max(1, Math.abs(expected[i][j])),
          );
        }
      }
    });
  }

  it('covers every operator that has one', () => {
    const covered = new Set(cases.map(({ op }) => op));
    const differentiable = Object.entries(table).filter(([, { gradient: rule }]) => typeof rule !== 'string');
    expect(differentiable.map(([name]) => name).filter((name) => !covered.has(name as OpName))).toEqual([]);
  });
});
