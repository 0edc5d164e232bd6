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
  equal,
  gather,
  lessOrEqual,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rotary,
  scalar,
  silu,
  softmax,
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

/**
 * One token of each of `rows` stories. Inputs: ids int64 [rows, 1]; positions int64 [rows, 1] and the same as "at"
 * int32; caches keys.N [rows, keyValueHeads, headSize, length] and values.N [rows, keyValueHeads, length, headSize].
 * Outputs: logits [rows, vocabulary], and the caches as next/keys.N and next/values.N. What a cache holds behind a row's position is
 * not looked at, so that a row begins anew by starting from position 0.
 */
export function teacherStep(teacher: Teacher, rows: number, length: number): Graph {
  const { hidden, heads, keyValueHeads, vocabulary } = teacher;
  const headSize = hidden / heads;
  const group = heads / keyValueHeads;
  const graph = new Graph();
  const ids = graph.input('ids', 'int64', [rows, 1]);
  const positions = graph.input('positions', 'int64', [rows, 1]);
  const at = graph.input('at', 'int32', [rows, 1, 1, 1]);
  const steps = Int32Array.from({ length }, (_, i) => i);
  const acrossKeys = graph.constant(stored('int32', [1, 1, 1, length], steps));
  const acrossValues = graph.constant(stored('int32', [1, 1, length, 1], steps));
  const mask = where(lessOrEqual(acrossKeys, at), scalar(graph, 0), scalar(graph, -1e4));
  const { cos, sin } = rotaryTables(graph, length, headSize);

  const norm = (x: Value, factor: number) => {
    const size = x.shape[2] as number;
    const weight = graph.constant(stored('float32', [size], new Float32Array(size).fill(factor)));
    return rmsNorm(x, weight, 1e-30);
  };
  const linear = (x: Value, matrix: Matrix) => matmul(x, graph.constant(transposed(matrix)));
  let x = gather(graph.constant(stored('float32', [vocabulary, hidden], teacher.embedding.values)), ids);
  for (const [index, layer] of teacher.layers.entries()) {
    const input = norm(x, 1 / hidden);
    const q = rotary(linear(input, halves(layer.q, headSize)), positions, cos, sin);
    const k = rotary(linear(input, halves(layer.k, headSize)), positions, cos, sin);
    const v = linear(input, layer.v);
    const oldKeys = graph.input(`keys.${index}`, 'float32', [rows, keyValueHeads, headSize, length]);
    const oldValues = graph.input(`values.${index}`, 'float32', [rows, keyValueHeads, length, headSize]);
    const keys = where(equal(acrossKeys, at), reshape(k, [rows, keyValueHeads, headSize, 1]), oldKeys);
    const values = where(equal(acrossValues, at), reshape(v, [rows, keyValueHeads, 1, headSize]), oldValues);
    graph.output(`next/keys.${index}`, keys);
    graph.output(`next/values.${index}`, values);
    const queries = mul(reshape(q, [rows, keyValueHeads, group, headSize]), scalar(graph, headSize ** -0.5));
    const mixed = matmul(softmax(add(matmul(queries, keys), mask)), values);
    const joined = reshape(mixed, [rows, 1, hidden]);
    x = add(x, linear(norm(joined, 1 / hidden), layer.o));
    const normed = norm(x, 1 / hidden);
    const wide = mul(silu(linear(normed, layer.gate)), linear(normed, layer.up));
    x = add(x, linear(norm(wide, 1 / layer.down.columns), layer.down));
  }
  const last = rmsNorm(x, graph.constant(stored('float32', [hidden], teacher.finalNorm)), 1e-5);
  const head = graph.constant(transposed(teacher.embedding));
  graph.output('logits', reshape(matmul(last, head), [rows, vocabulary]));
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
