/**
 * How much a change of a matrix moves its outputs, from G = X^T X alone: |X D^T|^2 = tr(D G D^T), over all tokens that
 * G was made of. Products run in the engine.
 */

import { defaultThreads } from '../base/threads.ts';
import { Graph } from '../graph/graph.ts';
import { fusedMatmul, matmul, mul, reduceSum, transpose } from '../graph/ops.ts';
import type { Session } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';
import type { Matrix } from '../contract/statistic.ts';

type Shape = 'tall' | 'wide' | 'grouped';

const known = new Map<Shape, Promise<Session>>();

/**
 * d G d^T of every row d [rows].
 * @param gram row-major [columns, columns]
 */
export async function rowEnergies(
  { rows, columns, values }: Matrix,
  gram: Float32Array,
): Promise<Float32Array> {
  // A product with few rows is shared out by columns, and how many threads there are would show in the last bits.
  const session = await opened(rows > columns ? 'tall' : 'wide');
  const feeds = {
    d: tensor('float32', [rows, columns], values),
    gram: tensor('float32', [columns, columns], gram),
  };
  return (await session.run(feeds)).energy.data as Float32Array;
}

/**
 * The same for every group of so many columns alone [groups, rows]: what the columns have in common with other groups
 * is left out.
 * @param blocks of the Gram matrix along its diagonal, as `diagonalBlocks` gives them
 */
export async function groupEnergies(
  { rows, columns, values }: Matrix,
  length: number,
  blocks: Float32Array,
): Promise<Float32Array> {
  const groups = Math.ceil(columns / length);
  const session = await opened('grouped');
  const feeds = {
    d: tensor('float32', [rows, groups, length], padded(values, rows, columns, groups * length)),
    blocks: tensor('float32', [groups, length, length], blocks),
  };
  return (await session.run(feeds)).energy.data as Float32Array;
}

/** [groups, length, length], zeros where the last group ends early. */
export function diagonalBlocks(gram: Float32Array, columns: number, length: number): Float32Array {
  const groups = Math.ceil(columns / length);
  const blocks = new Float32Array(groups * length * length);
  for (let row = 0; row < columns; row++) {
    const start = row - (row % length);
    const end = Math.min(start + length, columns);
    blocks.set(gram.subarray(row * columns + start, row * columns + end), row * length);
  }
  return blocks;
}

function padded(values: Float32Array, rows: number, columns: number, width: number): Float32Array {
  if (width === columns) return values;
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++)
    wide.set(values.subarray(row * columns, (row + 1) * columns), row * width);
  return wide;
}

function opened(shape: Shape): Promise<Session> {
  let found = known.get(shape);
  if (!found) {
    found = openSession(graphs[shape](), { threads: defaultThreads(), spinning: false });
    known.set(shape, found);
  }
  return found;
}

const graphs: Record<Shape, () => Graph> = {
  tall() {
    const { graph, d, gram } = inputs();
    graph.output('energy', reduceSum(mul(matmul(d, gram), d), [1]));
    return graph;
  },
  wide() {
    const { graph, d, gram } = inputs();
    const product = fusedMatmul(gram, d, { transB: true });
    graph.output('energy', reduceSum(mul(product, transpose(d, [1, 0])), [0]));
    return graph;
  },
  grouped() {
    const graph = new Graph();
    const d = transpose(graph.input('d', 'float32', ['rows', 'groups', 'length']), [1, 0, 2]);
    const blocks = graph.input('blocks', 'float32', ['groups', 'length', 'length']);
    graph.output('energy', reduceSum(mul(matmul(d, blocks), d), [2]));
    return graph;
  },
};

function inputs() {
  const graph = new Graph();
  const d = graph.input('d', 'float32', ['rows', 'columns']);
  return { graph, d, gram: graph.input('gram', 'float32', ['columns', 'columns']) };
}
