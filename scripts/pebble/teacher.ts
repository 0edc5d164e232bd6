/**
 * bitllama-3m, a ternary Llama trained on TinyStories (MIT licence; a llama2.c file of version 1), as a graph that takes one step of
 * many stories at once: pebble's second text is sampled from it. Before every linear layer x is divided by its root
 * mean square and its length; weights are a scale times -1, 0 or 1. The rounding of activations to 8 bits is left out.
 */

import { readFileSync } from 'node:fs';
import { stored } from '../../src/base/tensor.ts';
import type { Value } from '../../src/graph/graph.ts';
import { Graph } from '../../src/graph/graph.ts';
import {
  add,
  concat,
  equal,
  gather,
  greaterOrEqual,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rotary,
  scalar,
  silu,
  softmax,
  split,
  where,
} from '../../src/graph/ops.ts';

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  /** Row-major. */
  readonly values: Float32Array;
}

export interface Teacher {
  readonly hidden: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly vocabulary: number;
  readonly embedding: Matrix;
  readonly finalNorm: Float32Array;
  /** By layer. */
  readonly layers: readonly Readonly<Record<MatrixName, Matrix>>[];
}

const matrixNames = ['q', 'k', 'v', 'o', 'gate', 'down', 'up'] as const;
type MatrixName = (typeof matrixNames)[number];

/** Two bits of a byte to a weight: 01 is 1, 11 is -1. */
const ternary = [0, 1, 0, -1];

export function readTeacher(path: string): Teacher {
  const bytes = readFileSync(path);
  const [hidden, inner, count, heads, keyValueHeads, vocabulary] = Array.from({ length: 6 }, (_, i) =>
    bytes.readInt32LE(8 + 4 * i),
  );
  let at = 256;
  const floats = (length: number) => {
    const values = Float32Array.from({ length }, (_, i) => bytes.readFloatLE(at + 4 * i));
    at += 4 * length;
    return values;
  };
  const finalNorm = floats(hidden);
  const embedding = { rows: vocabulary, columns: hidden, values: floats(vocabulary * hidden) };
  const packed = (rows: number, columns: number): Matrix => {
    const [factor] = floats(1);
    const values = new Float32Array(rows * columns);
    for (let i = 0; i < values.length; i++) {
      values[i] = factor * ternary[(bytes[at + (i >> 2)] >> (6 - 2 * (i & 3))) & 3];
    }
    at += values.length / 4;
    return { rows, columns, values };
  };
  const narrow = (hidden / heads) * keyValueHeads;
  const shapes = { q: [hidden, hidden], k: [narrow, hidden], v: [narrow, hidden], o: [hidden, hidden] };
  const sizes: Record<MatrixName, readonly number[]> = {
    ...shapes,
    gate: [inner, hidden],
    down: [hidden, inner],
    up: [inner, hidden],
  };
  const layers = Array.from({ length: count }, () => ({}) as Record<MatrixName, Matrix>);
  for (const name of matrixNames) {
    for (const layer of layers) layer[name] = packed(sizes[name][0], sizes[name][1]);
  }
  return { hidden, heads, keyValueHeads, vocabulary, embedding, finalNorm, layers };
}

/** How the cache is laid out: a ring of `chunks` tensors of `span` steps each, so that a step writes to one of them. */
export interface Ring {
  readonly rows: number;
  readonly chunks: number;
  readonly span: number;
}

export const chunkName = (kind: 'keys' | 'values', layer: number, chunk: number | 'active'): string =>
  `${kind}.${layer}.${chunk}`;

/** Shapes of one chunk of keys and one of values. */
export function chunkShapes(teacher: Teacher, { rows, span }: Ring) {
  const headSize = teacher.hidden / teacher.heads;
  return {
    keys: [rows, teacher.keyValueHeads, headSize, span],
    values: [rows, teacher.keyValueHeads, span, headSize],
  } as const;
}

/**
 * One token of each row. Inputs: ids and positions int64 [rows, 1]; "slot" int32 [1]: where in the active chunk this step is
 * written; "steps" int32 [1, 1, 1, chunks * span]: the step that each slot was written at, the active chunk last; "begin"
 * int32 [rows, 1, 1, 1]: the step that a row's story began at, before which it sees nothing; the chunks. Outputs: logits
 * [rows, vocabulary], and the active chunks as "next/..".
 */
export function teacherStep(teacher: Teacher, ring: Ring): Graph {
  const { hidden, heads, keyValueHeads, vocabulary } = teacher;
  const { rows, chunks, span } = ring;
  const headSize = hidden / heads;
  const group = heads / keyValueHeads;
  const graph = new Graph();
  const ids = graph.input('ids', 'int64', [rows, 1]);
  const positions = graph.input('positions', 'int64', [rows, 1]);
  const slot = graph.input('slot', 'int32', [1]);
  const steps = graph.input('steps', 'int32', [1, 1, 1, chunks * span]);
  const begin = graph.input('begin', 'int32', [rows, 1, 1, 1]);
  const slots = Int32Array.from({ length: span }, (_, i) => i);
  const writtenKey = equal(graph.constant(stored('int32', [1, 1, 1, span], slots)), slot);
  const writtenValue = equal(graph.constant(stored('int32', [1, 1, span, 1], slots)), slot);
  const mask = where(greaterOrEqual(steps, begin), scalar(graph, 0), scalar(graph, -1e4));
  const { cos, sin } = rotaryTables(graph, chunks * span, headSize);
  const shapes = chunkShapes(teacher, ring);

  const norm = (x: Value) => {
    const size = x.shape[2] as number;
    const weight = graph.constant(stored('float32', [size], new Float32Array(size).fill(1 / size)));
    return rmsNorm(x, weight, 1e-30);
  };
  const linear = (x: Value, matrix: Matrix) => matmul(x, graph.constant(transposed(matrix)));
  /** The chunks of a layer, the active one with this step's row in it. */
  const remember = (kind: 'keys' | 'values', layer: number, row: Value, written: Value) => {
    const input = (chunk: number | 'active') =>
      graph.input(chunkName(kind, layer, chunk), 'float32', shapes[kind]);
    const full = Array.from({ length: chunks - 1 }, (_, chunk) => input(chunk));
    const time = kind === 'keys' ? 3 : 2;
    const one = shapes[kind].map((size, axis) => (axis === time ? 1 : size));
    const active = where(written, reshape(row, one), input('active'));
    graph.output(`next/${chunkName(kind, layer, 'active')}`, active);
    return [...full, active];
  };
  let x = gather(graph.constant(stored('float32', [vocabulary, hidden], teacher.embedding.values)), ids);
  for (const [index, layer] of teacher.layers.entries()) {
    const input = norm(x);
    const q = rotary(linear(input, halves(layer.q, headSize)), positions, cos, sin);
    const k = rotary(linear(input, halves(layer.k, headSize)), positions, cos, sin);
    const keys = remember('keys', index, k, writtenKey);
    const values = remember('values', index, linear(input, layer.v), writtenValue);
    const queries = mul(reshape(q, [rows, keyValueHeads, group, headSize]), scalar(graph, headSize ** -0.5));
    const scores = concat(
      keys.map((chunk) => matmul(queries, chunk)),
      3,
    );
    const shares = split(softmax(add(scores, mask)), Array(chunks).fill(span), 3);
    const mixed = values.map((chunk, i) => matmul(shares[i], chunk)).reduce(add);
    x = add(x, linear(norm(reshape(mixed, [rows, 1, hidden])), layer.o));
    const normed = norm(x);
    const wide = mul(silu(linear(normed, layer.gate)), linear(normed, layer.up));
    x = add(x, linear(norm(wide), layer.down));
  }
  const last = rmsNorm(x, graph.constant(stored('float32', [hidden], teacher.finalNorm)), 1e-5);
  graph.output(
    'logits',
    reshape(matmul(last, graph.constant(transposed(teacher.embedding))), [rows, vocabulary]),
  );
  return graph;
}

function rotaryTables(graph: Graph, length: number, headSize: number) {
  const half = headSize / 2;
  const angles = Float64Array.from({ length: length * half }, (_, i) => {
    return Math.floor(i / half) * 10000 ** ((-2 * (i % half)) / headSize);
  });
  const table = (f: (angle: number) => number) =>
    graph.constant(stored('float32', [length, half], Float32Array.from(angles, f)));
  return { cos: table(Math.cos), sin: table(Math.sin) };
}

/** Rows of each head regrouped from adjacent pairs to halves, as the rotary operator wants them. */
function halves({ rows, columns, values }: Matrix, headSize: number): Matrix {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headSize;
    const from = row - inHead + (inHead < headSize / 2 ? 2 * inHead : 2 * inHead - headSize + 1);
    result.set(values.subarray(from * columns, (from + 1) * columns), row * columns);
  }
  return { rows, columns, values: result };
}

function transposed({ rows, columns, values }: Matrix) {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column];
  }
  return stored('float32', [columns, rows], result);
}
