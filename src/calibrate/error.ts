/**
 * The relative error of a compressed matrix's outputs, |X (W - W')^T|^2 / |X W^T|^2. It needs only the Gram matrix
 * G = X^T X, since |X D^T|^2 = tr(D G D^T). The products run in the engine.
 */

import { toFloat32 } from '../base/half.ts';
import { evenRows, pickedRows } from '../base/rows.ts';
import { rowsOf } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { fusedMatmul, matmul, mul, reduceSum, transpose } from '../graph/ops.ts';
import type { Session, SessionOptions } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';
import type { Matrix, Statistic } from '../contract/statistic.ts';

/** Rows that stand for a larger matrix: the products cost as much as a method otherwise, and so do all weights. */
const mostRows = { outputs: 512, weights: 32 };

export interface ErrorMeter {
  /**
   * Relative squared error, over evenly spaced output features. With norms alone G is taken as diagonal; without any
   * statistic as the identity, so that it is the weights' error. 0 where the original gives only zeros.
   * @param original rows of it, as `sampled` gives them
   */
  relative(original: Float32Array, after: Encoding, statistic: Statistic | undefined): Promise<number>;
  close(): Promise<void>;
}

/** Opens no session before the first Gram matrix comes. */
export function openErrorMeter(options: Pick<SessionOptions, 'threads'>): ErrorMeter {
  const sessions = new Map<boolean, Promise<Session>>();
  const energyIn = async (rows: Float32Array, columns: number, gram: Float32Array) => {
    const tall = rows.length / columns > columns;
    const opening = sessions.get(tall) ?? openSession(energyGraph(tall), { threads: options.threads });
    sessions.set(tall, opening);
    const session = await opening;
    const outputs = await session.run({
      rows: tensor('float32', [rows.length / columns, columns], rows),
      gram: tensor('float32', [columns, columns], gram),
    });
    return (outputs.energy.data as Float32Array).reduce((total, value) => total + value, 0);
  };
  return {
    async relative(original, after, statistic) {
      const columns = after.shape[1];
      const chosen = evenRows(after.shape[0], original.length / columns);
      const difference = less(after.rows?.(chosen) ?? pickedRows(after.dense(), columns, chosen), original);
      const energy = async (rows: Float32Array) =>
        statistic?.gram
          ? await energyIn(rows, columns, statistic.gram)
          : weightedSquares(rows, columns, statistic?.squares);
      const whole = await energy(original);
      // Rounding can make a tiny error negative.
      return whole > 0 ? Math.max(0, (await energy(difference)) / whole) : 0;
    },
    async close() {
      for (const session of sessions.values()) await (await session).release();
    },
  };
}

/**
 * rows G rows^T, its diagonal: one number a row. The product of the two has no fewer rows than columns: one with fewer
 * is shared out by columns, and where a thread gets few of them, MLAS sums in other blocks.
 */
function energyGraph(tall: boolean): Graph {
  const graph = new Graph();
  const rows = graph.input('rows', 'float32', ['rows', 'columns']);
  const gram = graph.input('gram', 'float32', ['columns', 'columns']);
  const energy = tall
    ? reduceSum(mul(matmul(rows, gram), rows), [1])
    : reduceSum(mul(fusedMatmul(gram, rows, { transB: true }), transpose(rows, [1, 0])), [0]);
  graph.output('energy', energy);
  return graph;
}

/** The rows that errors of outputs or weights are measured on, copied: the rest need not be kept until then. */
export function sampled(weight: Matrix, of: keyof typeof mostRows): Float32Array {
  const { rows, columns, plain } = weight;
  const chosen = evenRows(rows, Math.min(rows, mostRows[of]));
  return plain ? toFloat32(rowsOf(plain, chosen)) : pickedRows(weight.values, columns, chosen);
}

/** In place. */
function less(values: Float32Array, others: Float32Array): Float32Array {
  for (let index = 0; index < values.length; index++) values[index] -= others[index];
  return values;
}

function weightedSquares(rows: Float32Array, columns: number, squares: Float32Array | undefined): number {
  let total = 0;
  for (let from = 0; from < rows.length; from += columns)
    for (let column = 0; column < columns; column++) {
      const value = rows[from + column];
      total += squares ? value * value * squares[column] : value * value;
    }
  return total;
}
