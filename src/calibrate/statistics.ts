/**
 * Statistics of what linear layers are fed, computed inside the graph that feeds them. Layers with the same input
 * share them. Sums run in float32: a batch's products inside one matrix product, then one addition a batch, so that
 * the error grows with the number of batches, not of tokens (measured against float64 in the test).
 */

import { LapidaryError } from '../base/errors.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { abs, add, fusedMatmul, max, mul, reduceMax, reduceSum, reshape, slice, sub } from '../graph/ops.ts';
import type { Feeds, Outputs, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Statistic, StatisticKind } from '../contract/statistic.ts';
import type { Part } from '../models/runner.ts';

/** What each linear layer needs, by name; those that are not named need nothing. */
export type Needs = ReadonlyMap<string, StatisticKind>;

/** Of every token of the calibration text, 1 on average, by the name of the layer that weighs them so. */
export type TokenWeights = ReadonlyMap<string, Float32Array>;

/** Of a Gram matrix' pieces: columns that each has at least, and how many there are to a side at most. */
const [narrowest, mostPieces] = [192, 4];

/** What a kind is made of, as bits: squares of columns, what else they come to, the Gram matrix, the other stream. */
const parts: Record<StatisticKind, number> = {
  none: 0,
  squares: 1,
  norm: 3,
  gram: 5,
  full: 7,
  cross: 13,
  all: 15,
};
const holds = (kind: StatisticKind, part: 'norm' | 'gram' | 'cross'): boolean =>
  (parts[kind] & parts[part]) === parts[part];

/** The kind that holds both. */
export function moreOf(a: StatisticKind, b: StatisticKind): StatisticKind {
  const both = parts[a] | parts[b];
  return (Object.keys(parts) as StatisticKind[]).find((kind) => parts[kind] === both)!;
}

/** One distinct input of a part's linear layers, or what one layer makes of it where it weighs tokens its own way. */
interface Collected {
  readonly kind: Exclude<StatisticKind, 'none'>;
  readonly columns: number;
  readonly linears: readonly string[];
  readonly weighted: boolean;
}

export interface Collector {
  /** Adds the nodes; for a runner's `extend`. */
  readonly extend: (part: Part) => void;
  /** The same for the batches to come, of which there is no original; `feeds` and `outputs` follow. */
  readonly extendAlone: () => (part: Part) => void;
  /** For the `extend` of the same part of the original model, after the other: outputs that go into `feeds`. */
  readonly extendOriginal: (part: Part) => void;
  /** Outputs to ask for, so that nothing else need be copied out; written into the sums of the batch before the last. */
  readonly outputs: Outputs;
  /** Those of the original model; empty where nobody asks for "cross". */
  readonly originals: readonly string[];
  /**
   * The sums so far, to feed with the next batch.
   * @param first the place of the batch's first token among all
   * @param tokens of the batch
   */
  feeds(first: number, tokens: number): Feeds;
  /** Takes a run's outputs in. */
  take(outputs: Readonly<Record<string, Tensor>>, tokens: number): void;
  /** @throws LapidaryError naming the layer whose input is not finite */
  statistics(): ReadonlyMap<string, Statistic>;
}

/**
 * Collects over runs of one part. Sums are inputs of the graph and come out with the batch added.
 * @param importance of tokens: products weigh them so; sizes and peaks do not
 */
export function openCollector(needs: Needs, importance?: TokenWeights): Collector {
  const inputs: Collected[] = [];
  const originals: string[] = [];
  let sums: Record<string, Tensor> = {};
  // What the engine reads is not what it writes.
  let spare: Record<string, Tensor> = {};
  let tokens = 0;
  /** What is complete when there is no original any more: "cross", and the Gram matrices of the same tokens. */
  let complete: Record<string, Tensor> | undefined;
  return {
    get outputs() {
      return Object.fromEntries(Object.keys(sums).map((name) => [after(name), spare[name] ?? null]));
    },
    originals,
    extend({ graph, scope }) {
      for (const [key, { input, linears }] of usersOf(scope, needs, importance)) {
        const kind = linears.map((name) => needs.get(name)!).reduce(moreOf) as Collected['kind'];
        const weighted = key !== input;
        const index = inputs.push({ kind, columns: input.shape.at(-1) as number, linears, weighted }) - 1;
        if (holds(kind, 'cross')) originals.push(sumName(index, 'original'));
        for (const [name, shape] of addSums(graph, input, { kind, weighted }, index))
          sums[name] = tensor('float32', shape, new Float32Array(shape.reduce((a, b) => a * b)));
      }
    },
    extendAlone() {
      complete = completed(sums, inputs);
      spare = {};
      sums = Object.fromEntries(Object.entries(sums).filter(([name]) => !isCross(name)));
      return ({ graph, scope }) => {
        for (const [index, { kind, linears, weighted }] of inputs.entries()) {
          const { input } = scope.linears.get(linears[0])!;
          addSums(graph, input, { kind: withoutCross(kind), weighted }, index);
        }
      };
    },
    extendOriginal({ graph, scope }) {
      for (const [index, { kind, columns, linears }] of inputs.entries()) {
        if (!holds(kind, 'cross')) continue;
        const { input } = scope.linears.get(linears[0])!;
        graph.output(sumName(index, 'original'), reshape(input, [-1, columns]));
      }
    },
    feeds(first, count) {
      const weights = inputs.flatMap(({ weighted, linears }, index) => {
        if (!weighted) return [];
        const own = importance!.get(linears[0])!.subarray(first, first + count);
        return [[sumName(index, 'weights'), tensor('float32', [count, 1], own)] as const];
      });
      return { ...sums, ...Object.fromEntries(weights) };
    },
    take(results, count) {
      spare = sums;
      sums = Object.fromEntries(Object.keys(sums).map((name) => [name, results[after(name)]]));
      tokens += count;
    },
    statistics() {
      spare = {};
      const found = new Map<string, Statistic>();
      inputs.forEach(({ kind, columns, linears }, index) => {
        const sum = (part: string) => sums[sumName(index, part)]?.data as Float32Array | undefined;
        const compared = (part: string) => complete?.[sumName(index, part)]?.data as Float32Array;
        const gram = holds(kind, 'gram') ? assembled(columns, (piece) => sum(piece)!) : undefined;
        const squares = gram ? diagonal(gram, columns) : sum('squares')!;
        checkFinite(squares, linears);
        const [sizes, peaks, cross] = [sum('sizes'), sum('peaks'), sum('cross') ?? compared('cross')];
        const comparedGram = complete && cross ? assembled(columns, compared) : undefined;
        for (const name of linears)
          found.set(name, { tokens, squares, sizes, peaks, gram, cross, comparedGram });
      });
      return found;
    },
  };
}

/** What layers are fed that somebody needs something of, by that or by how a layer weighs it, with the layers. */
function usersOf(scope: Part['scope'], needs: Needs, importance: TokenWeights | undefined) {
  const users = new Map<Value | Float32Array, { readonly input: Value; readonly linears: string[] }>();
  for (const [name, { input }] of scope.linears) {
    if ((needs.get(name) ?? 'none') === 'none') continue;
    const key = importance?.get(name) ?? input;
    users.set(key, { input, linears: [...(users.get(key)?.linears ?? []), name] });
  }
  return users;
}

const withoutCross = (kind: Collected['kind']): Collected['kind'] =>
  kind === 'cross' ? 'gram' : kind === 'all' ? 'full' : kind;

const isCross = (sum: string): boolean => sum.endsWith('.cross');

/** Copies where the sums go on. */
function completed(sums: Readonly<Record<string, Tensor>>, inputs: readonly Collected[]) {
  const found: Record<string, Tensor> = {};
  for (const [index, { kind, columns }] of inputs.entries()) {
    if (!holds(kind, 'cross')) continue;
    const cross = sumName(index, 'cross');
    found[cross] = sums[cross];
    for (const piece of pieceNames(columns)) {
      const { data, dims } = sums[sumName(index, piece)];
      found[sumName(index, piece)] = tensor('float32', dims, (data as Float32Array).slice());
    }
  }
  return found;
}

function pieceNames(columns: number): readonly string[] {
  const { count } = piecesOf(columns);
  const rows = Array.from({ length: count }, (_, row) => row);
  return rows.flatMap((row) => rows.slice(row).map((column) => pieceName(row, column)));
}

const sumName = (index: number, part: string): string => `statistic.${index}.${part}`;
const after = (sum: string): string => `${sum}.next`;

/** @returns the sums by name, each an input of the graph and, one batch later, an output */
function addSums(
  graph: Graph,
  input: Value,
  { kind, weighted }: Pick<Collected, 'kind' | 'weighted'>,
  index: number,
) {
  const columns = input.shape.at(-1) as number;
  const x = reshape(input, [-1, columns]);
  const own = weighted ? mul(x, graph.input(sumName(index, 'weights'), 'float32', [x.shape[0], 1])) : x;
  const made = new Map<string, readonly number[]>();
  const sum = (part: string, shape: readonly number[], next: (before: Value) => Value) => {
    const name = sumName(index, part);
    graph.output(after(name), next(graph.input(name, 'float32', shape)));
    made.set(name, shape);
  };
  if (holds(kind, 'norm')) {
    const size = abs(x);
    sum('sizes', [columns], (before) => add(before, reduceSum(size, [0])));
    sum('peaks', [columns], (before) => max(before, reduceMax(size, [0])));
  }
  if (holds(kind, 'gram')) addPieces(own, x, columns, sum);
  else sum('squares', [columns], (before) => add(before, reduceSum(mul(own, x), [0])));
  if (holds(kind, 'cross')) {
    const original = graph.input(sumName(index, 'original'), 'float32', x.shape);
    sum('cross', [columns, columns], (before) =>
      add(before, fusedMatmul(own, sub(original, x), { transA: true })),
    );
  }
  return made;
}

/** A Gram matrix is symmetric: of a large one, pieces on its diagonal and above are enough. */
export function piecesOf(columns: number): { readonly count: number; readonly width: number } {
  let count = mostPieces;
  while (count > 1 && (columns % count !== 0 || columns / count < narrowest)) count--;
  return { count, width: columns / count };
}

const pieceName = (row: number, column: number): string => `gram.${row}.${column}`;

function addPieces(
  own: Value,
  x: Value,
  columns: number,
  sum: (part: string, shape: readonly number[], next: (before: Value) => Value) => void,
): void {
  const { count, width } = piecesOf(columns);
  const cut = (value: Value) =>
    count === 1
      ? [value]
      : Array.from({ length: count }, (_, i) => slice(value, 1, i * width, (i + 1) * width));
  const right = cut(x);
  const left = own === x ? right : cut(own);
  for (let row = 0; row < count; row++)
    for (let column = row; column < count; column++)
      sum(pieceName(row, column), [width, width], (before) =>
        add(before, fusedMatmul(left[row], right[column], { transA: true })),
      );
}

/** The whole of it, row-major. */
function assembled(columns: number, piece: (name: string) => Float32Array): Float32Array {
  const { count, width } = piecesOf(columns);
  if (count === 1) return piece(pieceName(0, 0));
  const gram = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++) {
    const row = Math.floor(i / width);
    for (let column = row; column < count; column++) {
      const from = (i % width) * width;
      gram.set(piece(pieceName(row, column)).subarray(from, from + width), i * columns + column * width);
    }
    for (let j = 0; j < row * width; j++) gram[i * columns + j] = gram[j * columns + i];
  }
  return gram;
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
  const ones = () => new Float32Array(columns).fill(1);
  const norms = holds(kind, 'norm') ? { sizes: ones(), peaks: ones() } : {};
  const gram = holds(kind, 'gram') ? identity(columns) : undefined;
  return { tokens: columns, squares: ones(), ...norms, gram };
}

function identity(size: number): Float32Array {
  const matrix = new Float32Array(size * size);
  for (let index = 0; index < size; index++) matrix[index * size + index] = 1;
  return matrix;
}

/** For a method that may overwrite what it gets. */
export function ownCopy({ gram, cross, comparedGram, squares, sizes, peaks, tokens }: Statistic): Statistic {
  return {
    tokens,
    squares: squares?.slice(),
    sizes: sizes?.slice(),
    peaks: peaks?.slice(),
    gram: gram?.slice(),
    cross: cross?.slice(),
    comparedGram: comparedGram?.slice(),
  };
}
