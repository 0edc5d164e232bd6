/** Random rotations to begin with, and the engine's products that turn matrices by them. */

import type { Random } from '../../base/random.ts';
import { random } from '../../base/random.ts';
import type { Value } from '../../graph/graph.ts';
import { Graph } from '../../graph/graph.ts';
import { fusedMatmul, matmul } from '../../graph/ops.ts';
import type { Session, SessionOptions } from '../../graph/session.ts';
import { openSession, tensor } from '../../graph/session.ts';
import type { Model } from '../../models/model.ts';
import { hadamard, hasHadamard } from './hadamard.ts';
import { orthogonal } from './orthogonal.ts';

/** An orthogonal matrix, row-major [size, size]. */
export interface Rotation {
  readonly size: number;
  readonly values: Float32Array;
}

/** Blocks smaller than this mix too few channels to be worth more than a dense random rotation. */
const smallestBlock = 32;

/**
 * A random rotation: signs, then a Hadamard matrix (QuaRot, section 3); where there is none of this size, blocks of the
 * largest divisor that has one, or a dense orthogonal matrix.
 * @param keepsMean the vector of ones is turned into itself, so that LayerNorm finds the same means: Q D Q^T with random
 *   signs D, the first left as it is, and Q's first column constant (per block)
 */
export async function randomRotation(
  size: number,
  draw: Random,
  { turner, keepsMean = false }: { readonly turner: Turner; readonly keepsMean?: boolean },
): Promise<Rotation> {
  const block = blockOf(size);
  const basis = basisOf(block ?? size, block !== undefined, draw);
  const values = new Float32Array(size * size);
  const order = block ?? size;
  const signs = Float32Array.from({ length: size }, () => (draw.uniform() < 0.5 ? -1 : 1));
  for (let start = 0; start < size; start += order) {
    const own = signs.subarray(start, start + order);
    if (keepsMean) own[0] = 1;
    const turned = keepsMean ? await conjugated(basis, order, own, turner) : signed(basis, order, own);
    for (let row = 0; row < order; row++) {
      values.set(turned.subarray(row * order, (row + 1) * order), (start + row) * size + start);
    }
  }
  return { size, values };
}

/** A random rotation of a model's residual stream. */
export function randomStream(
  { architecture, config }: Model,
  seed: number,
  turner: Turner,
): Promise<Rotation> {
  const keepsMean = architecture.around(config).centered;
  return randomRotation(config.hidden, random(seed).fork('stream'), { turner, keepsMean });
}

/** Random rotations of the values of a model's heads: one for each size of them. */
export async function randomHeads(
  { config }: Model,
  seed: number,
  turner: Turner,
): Promise<(layer: number) => Rotation> {
  const bySize = new Map<number, Rotation>();
  for (const size of new Set(config.layers.map(({ headSize }) => headSize))) {
    bySize.set(size, await randomRotation(size, random(seed).fork(`heads of ${size}`), { turner }));
  }
  return (layer) => bySize.get(config.layers[layer].headSize)!;
}

/** The largest divisor with a Hadamard matrix, where it is large enough. */
function blockOf(size: number): number | undefined {
  for (let parts = 1; parts < size; parts++) {
    const block = size / parts;
    if (parts > 1 && block < smallestBlock) return undefined;
    if (Number.isInteger(block) && hasHadamard(block)) return block;
  }
  return undefined;
}

function basisOf(order: number, known: boolean, draw: Random): Float32Array {
  if (!known) return orthogonal(order, draw);
  const scale = 1 / Math.sqrt(order);
  return Float32Array.from(hadamard(order)!, (sign) => sign * scale);
}

/** D Q. */
const signed = (basis: Float32Array, order: number, signs: Float32Array) =>
  basis.map((value, i) => value * signs[Math.floor(i / order)]);

/** Q D Q^T: the product turns the rows of (Q D)^T = D Q^T by Q^T. */
async function conjugated(basis: Float32Array, order: number, signs: Float32Array, turner: Turner) {
  const values = Float32Array.from(basis, (_, i) => {
    const [row, column] = [Math.floor(i / order), i % order];
    return basis[column * order + row] * signs[row];
  });
  await turner.rows(values, order, { size: order, values: transposed(basis, order) });
  return values;
}

function transposed(values: Float32Array, order: number): Float32Array {
  return values.map((_, i) => values[(i % order) * order + Math.floor(i / order)]);
}

/** Turns matrices in place. */
export interface Turner {
  /** X R for every run of R's size along the rows of values [.., size]. */
  columns(values: Float32Array, rotation: Rotation): Promise<void>;
  /** R^T X for every run of R's size of rows of values [rows, columns]. */
  rows(values: Float32Array, columns: number, rotation: Rotation): Promise<void>;
  release(): Promise<void>;
}

/** Numbers that are copied at once. */
const pieceSize = 2 ** 22;

async function openTurner({ threads }: Pick<SessionOptions, 'threads'>): Promise<Turner> {
  const right = await session(threads, ['other', 'size'], (x, r) => matmul(x, r));
  const left = await session(threads, ['size', 'other'], (x, r) => fusedMatmul(r, x, { transA: true }));
  return {
    async columns(values, { size, values: r }) {
      const length = Math.max(1, Math.floor(pieceSize / size)) * size;
      for (let start = 0; start < values.length; start += length) {
        const piece = values.subarray(start, start + length);
        await turn(right, piece, [piece.length / size, size], { size, values: r });
      }
    },
    async rows(values, columns, rotation) {
      const length = rotation.size * columns;
      for (let start = 0; start < values.length; start += length) {
        await turn(left, values.subarray(start, start + length), [rotation.size, columns], rotation);
      }
    },
    async release() {
      await right.release();
      await left.release();
    },
  };
}

/** Lends a turner. */
export async function withTurner<T>(
  options: Pick<SessionOptions, 'threads'>,
  use: (turner: Turner) => Promise<T>,
): Promise<T> {
  const turner = await openTurner(options);
  try {
    return await use(turner);
  } finally {
    await turner.release();
  }
}

async function turn(session: Session, x: Float32Array, shape: readonly number[], { size, values }: Rotation) {
  const { y } = await session.run({
    x: tensor('float32', shape, x),
    r: tensor('float32', [size, size], values),
  });
  x.set(y.data as Float32Array);
}

function session(
  threads: number | undefined,
  shape: readonly string[],
  product: (x: Value, r: Value) => Value,
): Promise<Session> {
  const graph = new Graph();
  const [x, r] = [graph.input('x', 'float32', shape), graph.input('r', 'float32', ['size', 'size'])];
  graph.output('y', product(x, r));
  return openSession(graph, { threads });
}
