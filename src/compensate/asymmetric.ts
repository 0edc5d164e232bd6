/**
 * What earlier layers lost, made up for (GPTAQ: Li et al. 2025, arXiv:2504.02692): the weight that GPTQ rounds is the one
 * whose outputs on the inputs X of the compressed model are nearest to W's on those of the original, X',
 *   W* = argmin |X' W^T - X W*^T|^2 = W + W C^T G^-1,   G = X^T X,   C = X^T (X' - X).
 * The paper spreads this over the columns as they are rounded; solving for it beforehand is the same problem in closed
 * form. The system is solved by conjugate gradients, preconditioned by the diagonal, all rows at once; few steps keep
 * W* from following directions that the calibration text hardly shows.
 */

import { defaultThreads } from '../base/threads.ts';
import { Graph } from '../graph/graph.ts';
import type { Shape, Value } from '../graph/graph.ts';
import { add, div, fusedMatmul, matmul, max, mul, reduceSum, scalar, sub, transpose } from '../graph/ops.ts';
import type { Session } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';
import type { Matrix } from '../contract/statistic.ts';
import { damp } from './cholesky.ts';

const steps = 12;

/**
 * @param gram X^T X, row-major [columns, columns], of the tokens that `cross` is of
 * @param cross X^T (X' - X), row-major [columns, columns]
 * @param share of the correction that is made
 */
export async function correctedWeight(
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  cross: Float32Array,
  { asymmetric: share, damping }: { readonly asymmetric: number; readonly damping: number },
): Promise<Matrix> {
  const damped = gram.slice();
  damp(damped, columns, damping);
  const { begin, step } = await solver(rows > columns);
  const square = [columns, columns];
  const system = {
    gram: tensor('float32', square, damped),
    inverse: tensor(
      'float32',
      [columns],
      Float32Array.from({ length: columns }, (_, i) => 1 / damped[i * columns + i]),
    ),
  };
  const weight = tensor('float32', [rows, columns], values);
  let state = await begin.run({ weight, cross: tensor('float32', square, cross), inverse: system.inverse });
  state = { ...state, x: tensor('float32', state.r.dims, new Float32Array(rows * columns)) };
  for (let i = 0; i < steps; i++) {
    const { p, r, x, energy } = state;
    state = await step.run({ ...system, 'p.now': p, 'r.now': r, 'x.now': x, 'energy.now': energy });
  }
  const found = state.x.data as Float32Array;
  const corrected = new Float32Array(rows * columns);
  // Wide systems are solved transposed.
  const at = (row: number, column: number) => (rows > columns ? row * columns + column : column * rows + row);
  for (let row = 0, i = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, i++)
      corrected[i] = values[i] + share * found[at(row, column)];
  return { rows, columns, values: corrected };
}

interface Solver {
  /** The first residual, W C^T, with its direction. */
  readonly begin: Session;
  readonly step: Session;
}

const known = new Map<boolean, Promise<Solver>>();

/**
 * @param tall rows of the unknown lie along rows, else along columns: the product with the system has no fewer rows than
 *   columns, so that its sums do not depend on the number of threads
 */
function solver(tall: boolean): Promise<Solver> {
  const found = known.get(tall) ?? open(tall);
  known.set(tall, found);
  return found;
}

async function open(tall: boolean): Promise<Solver> {
  const session = (build: (graph: Graph) => void) => {
    const graph = new Graph();
    build(graph);
    return openSession(graph, { threads: defaultThreads(), spinning: false });
  };
  const shape = tall ? ['rows', 'columns'] : ['columns', 'rows'];
  const along = tall ? 1 : 0;
  const dot = (a: Value, b: Value) => reduceSum(mul(a, b), [along], true);
  const preconditioned = (r: Value, inverse: Value) =>
    tall ? mul(r, inverse) : transpose(mul(transpose(r, [1, 0]), inverse), [1, 0]);
  const begin = session((graph) => {
    const weight = graph.input('weight', 'float32', ['rows', 'columns']);
    const cross = graph.input('cross', 'float32', ['columns', 'columns']);
    const inverse = graph.input('inverse', 'float32', ['columns']);
    const r = tall
      ? fusedMatmul(weight, cross, { transB: true })
      : fusedMatmul(cross, weight, { transB: true });
    const p = preconditioned(r, inverse);
    graph.output('r', r);
    graph.output('p', p);
    graph.output('energy', dot(r, p));
  });
  const step = session((graph) => {
    const input = (name: string, dims: Shape) => graph.input(name, 'float32', dims);
    const [gram, inverse] = [input('gram', ['columns', 'columns']), input('inverse', ['columns'])];
    const [p, r, x] = ['p.now', 'r.now', 'x.now'].map((name) => input(name, shape));
    const energy = input('energy.now', tall ? ['rows', 1] : [1, 'rows']);
    const q = tall ? matmul(p, gram) : matmul(gram, p);
    // A row that is solved has nothing left to divide by.
    const least = scalar(graph, 1e-30);
    const length = div(energy, max(dot(p, q), least));
    const left = sub(r, mul(length, q));
    const z = preconditioned(left, inverse);
    const now = dot(left, z);
    const outputs = {
      x: add(x, mul(length, p)),
      r: left,
      p: add(z, mul(div(now, max(energy, least)), p)),
      energy: now,
    };
    for (const [name, value] of Object.entries(outputs)) graph.output(name, value);
  });
  const [first, next] = await Promise.all([begin, step]);
  return { begin: first, step: next };
}
