/**
 * Statistics of what linear layers are fed, computed inside the graph that feeds them. Layers with the same input
 * share them. Sums run in float32: a batch's products inside one matrix product, then one addition a batch, so that
 * the error grows with the number of batches, not of tokens (measured against float64 in the test).
 */

import { LapidaryError } from '../base/errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, fusedMatmul, mul, reduceSum, reshape } from '../graph/ops.ts';
import type { Feeds, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Statistic, StatisticKind } from '../methods/contract.ts';
import type { Part } from '../models/runner.ts';

/** What each linear layer needs, by name; those that are not named need nothing. */
export type Needs = ReadonlyMap<string, StatisticKind>;

const rank: Record<StatisticKind, number> = { none: 0, norm: 1, gram: 2 };

/** The more telling of two: a Gram matrix holds the norms on its diagonal. */
export function moreOf(a: StatisticKind, b: StatisticKind): StatisticKind {
  return rank[a] >= rank[b] ? a : b;
}

/** One distinct input of a part's linear layers. */
interface Collected {
  readonly kind: 'norm' | 'gram';
  readonly columns: number;
  readonly linears: readonly string[];
}

export interface Collector {
  /** Adds the nodes; for a runner's `extend`. */
  readonly extend: (part: Part) => void;
  /** Outputs to ask for, so that nothing else need be copied out. */
  readonly outputs: readonly string[];
  /** The sums so far, to feed with the next batch. */
  feeds(): Feeds;
  /** Takes a run's outputs in. */
  take(outputs: Readonly<Record<string, Tensor>>, tokens: number): void;
  /** @throws LapidaryError naming the layer whose input is not finite */
  statistics(): ReadonlyMap<string, Statistic>;
}

/** Collects over runs of one part. Sums are inputs of the graph and come out with the batch added. */
export function openCollector(needs: Needs): Collector {
  const inputs: Collected[] = [];
  const outputs: string[] = [];
  let sums: Record<string, Tensor> = {};
  let tokens = 0;
  return {
    outputs,
    extend({ graph, scope }) {
      const users = new Map<Value, string[]>();
      for (const [name, { input }] of scope.linears) {
        if ((needs.get(name) ?? 'none') !== 'none') users.set(input, [...(users.get(input) ?? []), name]);
      }
      for (const [input, linears] of users) {
        const kind = linears.map((name) => needs.get(name)!).reduce(moreOf) as Collected['kind'];
        const columns = input.shape.at(-1) as number;
        const shape = kind === 'gram' ? [columns, columns] : [columns];
        const name = `statistic.${inputs.length}`;
        const before = graph.input(name, 'float32', shape);
        const rows = reshape(input, [-1, columns]);
        const batch =
          kind === 'gram' ? fusedMatmul(rows, rows, { transA: true }) : reduceSum(mul(rows, rows), [0]);
        graph.output(`${name}.sum`, add(before, batch));
        sums[name] = tensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b)));
        outputs.push(`${name}.sum`);
        inputs.push({ kind, columns, linears });
      }
    },
    feeds: () => sums,
    take(results, count) {
      sums = Object.fromEntries(
        inputs.map((_, index) => [`statistic.${index}`, results[`statistic.${index}.sum`]]),
      );
      tokens += count;
    },
    statistics() {
      const found = new Map<string, Statistic>();
      inputs.forEach(({ kind, columns, linears }, index) => {
        const values = sums[`statistic.${index}`].data as Float32Array;
        const squares = kind === 'gram' ? diagonal(values, columns) : values;
        checkFinite(squares, linears);
        for (const name of linears)
          found.set(name, { tokens, squares, ...(kind === 'gram' && { gram: values }) });
      });
      return found;
    },
  };
}

function diagonal(matrix: Float32Array, size: number): Float32Array {
  return Float32Array.from({ length: size }, (_, index) => matrix[index * size + index]);
}

/** A value that is not finite makes its column's sum of squares so. */
function checkFinite(squares: Float32Array, linears: readonly string[]): void {
  const column = squares.findIndex((value) => !Number.isFinite(value));
  if (column < 0) return;
  throw new LapidaryError({
    what: 'the model computes values that are not finite on the calibration text',
    where: `input of ${linears.join(', ')}, column ${column}`,
    expected: 'finite activations',
    found: `a sum of squares of ${squares[column]}`,
    fix: 'check that the checkpoint is whole; try other calibration text',
  });
}

/** Of a table whose rows are outputs as they are, whichever is looked up: as if the inputs were the unit vectors. */
export function unitStatistic(kind: StatisticKind, columns: number): Statistic {
  if (kind === 'none') return { tokens: 0 };
  const squares = new Float32Array(columns).fill(1);
  if (kind === 'norm') return { tokens: columns, squares };
  const gram = new Float32Array(columns * columns);
  for (let index = 0; index < columns; index++) gram[index * columns + index] = 1;
  return { tokens: columns, squares, gram };
}
