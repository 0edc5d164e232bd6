/**
 * Scales that move from what gives a channel to the matrices that read it: x W^T = (x / s) (W s)^T. A norm's weight and
 * bias, or the rows of a matrix before, are divided by s, the readers' columns multiplied; the model computes the same.
 * Which channels can take a scale follows from the architecture's structure; how large it is, from the method.
 */

import { toFloat32 } from '../base/half.ts';
import { evenRows, pickedRows } from '../base/rows.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Model, Passage } from '../models/model.ts';
import type { Changes } from '../contract/method.ts';
import type { Matrix } from '../contract/statistic.ts';

/** Channels that one choice of scales is made for. */
export interface Scaling {
  /** Vectors that are divided: a norm's weight and bias, or the bias of `from`. */
  readonly vectors: readonly string[];
  /** What the first of them counts from; see `NormStructure`. */
  readonly offset?: number | undefined;
  /** The matrix whose rows are divided, where no norm gives the channels. */
  readonly from?: string | undefined;
  /** Matrices whose columns are multiplied; all are fed the same. */
  readonly readers: readonly string[];
  /** How many scales there are to choose. */
  readonly channels: number;
  /** The channel of each of the readers' columns. */
  readonly channelOf: Int32Array;
}

/** A layer's channels that can be scaled: behind its norms, and along its passages. */
export function scalingsOf({ architecture, config, matrices }: Model, layer: number): readonly Scaling[] {
  const { norms, passages } = architecture.structure(config, layer);
  const width = (name: string) => matrices.get(name)!.shape[1];
  const defined = (names: readonly (string | undefined)[]) => names.filter((name) => name !== undefined);
  return [
    ...norms.map(({ weight, bias, offset, readers }): Scaling => {
      const names = readers.map(({ matrix }) => matrix);
      const channels = width(names[0]);
      const channelOf = Int32Array.from({ length: channels }, (_, column) => column);
      return { vectors: defined([weight, bias]), offset, readers: names, channels, channelOf };
    }),
    ...passages.map((passage): Scaling => {
      const { from, bias, to } = passage;
      const channels = matrices.get(from)!.shape[0];
      const channelOf = columnsOf(passage, width(to));
      return { vectors: defined([bias]), from, readers: [to], channels, channelOf };
    }),
  ];
}

/** Heads that share a key/value head read the same channels. */
function columnsOf({ heads: plan }: Passage, columns: number): Int32Array {
  return Int32Array.from({ length: columns }, (_, column) => {
    if (!plan) return column;
    const { heads, keyValueHeads, headSize } = plan;
    const head = Math.floor(column / headSize);
    return Math.floor(head / (heads / keyValueHeads)) * headSize + (column % headSize);
  });
}

/** The scale of each of the readers' columns. */
export function spread({ channelOf }: Scaling, scales: Float32Array): Float32Array {
  return Float32Array.from(channelOf, (channel) => scales[channel]);
}

/** One number a channel out of one a column. */
export function gathered(
  { channels, channelOf }: Scaling,
  columns: ArrayLike<number>,
  how: 'mean' | 'largest',
): Float64Array {
  const result = new Float64Array(channels);
  const share = channels / channelOf.length;
  channelOf.forEach((channel, column) => {
    if (how === 'mean') result[channel] += share * columns[column];
    else result[channel] = Math.max(result[channel], columns[column]);
  });
  return result;
}

/** Matrices and vectors with scales moved; what no scale touches is left out. Later changes may go on from it. */
export interface Folded {
  readonly matrices: Map<string, Matrix>;
  readonly vectors: Map<string, Stored>;
}

/** @param chosen positive scales [channels] for each scaling; undefined: none */
export function fold(model: Model, chosen: ReadonlyMap<Scaling, Float32Array | undefined>): Folded {
  const folded: Folded = { matrices: new Map(), vectors: new Map() };
  for (const [scaling, scales] of chosen) {
    if (!scales) continue;
    for (const [place, name] of scaling.vectors.entries()) {
      const vector = toFloat32(folded.vectors.get(name) ?? model.vectors.get(name)!);
      const offset = place === 0 ? (scaling.offset ?? 0) : 0;
      const values = vector.map((value, channel) => (value + offset) / scales[channel] - offset);
      folded.vectors.set(name, stored('float32', [values.length], values));
    }
    if (scaling.from !== undefined) {
      const { values, columns } = matrixIn(model, folded, scaling.from);
      values.forEach((value, index) => (values[index] = value / scales[Math.floor(index / columns)]));
    }
    const perColumn = spread(scaling, scales);
    for (const name of scaling.readers) scaleColumns(matrixIn(model, folded, name), perColumn);
  }
  return folded;
}

function matrixIn(model: Model, { matrices }: Folded, name: string): Matrix {
  const found = matrices.get(name) ?? matrixOf(model, name);
  matrices.set(name, found);
  return found;
}

/** A model's matrix, dense, to be written to. */
export function matrixOf(model: Model, name: string): Matrix {
  const encoding = model.matrices.get(name)!;
  const [rows, columns] = encoding.shape;
  return { rows, columns, values: encoding.dense() };
}

/** In place. */
export function scaleColumns({ rows, columns, values }: Matrix, scales: Float32Array): void {
  for (let row = 0, index = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) values[index++] *= scales[column];
  }
}

/** The values are shared, not copied. */
export function changes({ matrices, vectors }: Folded): Changes {
  const encoded = new Map<string, Encoding>();
  for (const [name, { rows, columns, values }] of matrices)
    encoded.set(name, denseValues(values, rows, columns));
  return { matrices: encoded, vectors };
}

/** Rows that scales are tried on; each is rounded by itself. */
const mostRows = 128;

/** Evenly spaced rows of a matrix that has many. */
export function sampled(matrix: Matrix): Matrix {
  const { rows, columns, values } = matrix;
  if (rows <= mostRows) return matrix;
  return { rows: mostRows, columns, values: pickedRows(values, columns, evenRows(rows, mostRows)) };
}
