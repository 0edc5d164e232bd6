/**
 * What rounding a layer's weights and inputs is expected to cost, as a function of the rotations, differentiated by our
 * graph. Rounding to a grid of step s errs by s^2 / 12 in the mean square (Widrow's uniform noise), independently from one
 * weight to the next, so a matrix's share of error in its outputs is
 *   sum over rows and groups of s^2 / 12 * (second moments of the group's inputs) / (second moment of the outputs),
 * with s = (largest - smallest) / (2^bits - 1), plus the same for inputs that are rounded token by token.
 */

import { gradient } from '../../graph/gradient.ts';
import type { Shape, Value } from '../../graph/graph.ts';
import { Graph } from '../../graph/graph.ts';
import {
  abs,
  add,
  fusedMatmul,
  matmul,
  mul,
  neg,
  reduceMax,
  reduceMean,
  reduceSum,
  reshape,
  scale,
  transpose,
} from '../../graph/ops.ts';
import type { Feeds, Session, SessionOptions, Tensor } from '../../graph/session.ts';
import { openSession, tensor } from '../../graph/session.ts';
import type { LayerSites, ReadSite, WriteSite } from './sites.ts';
import type { Rotation } from './rotation.ts';

export interface LossOptions {
  /** Of weights. */
  readonly bits: number;
  /** Weights along a row that share a grid; -1 for whole rows. */
  readonly group: number;
  readonly inputBits: number;
}

export interface LayerLoss {
  /** Mean share of error over the layer's matrices. */
  readonly loss: number;
  /** d loss / d R, of the sizes of the rotations. */
  readonly stream: Tensor;
  readonly heads: Tensor;
}

export interface Loss {
  at(layer: number, stream: Rotation, heads: Rotation): Promise<LayerLoss>;
  release(): Promise<void>;
}

/** Layers of the same shapes share a session. */
export function openLoss(
  layers: readonly LayerSites[],
  hidden: number,
  options: LossOptions,
  { threads }: Pick<SessionOptions, 'threads'>,
): Loss {
  const sessions = new Map<string, Promise<Session>>();
  const feeds = layers.map((sites) => feedsOf(sites, hidden));
  const scales = layers.map(() => undefined as Promise<Feeds> | undefined);
  const energies = energySession(threads);
  return {
    async at(layer, stream, heads) {
      const fed = feeds[layer]();
      scales[layer] ??= energies.then((open) => outputScales(open, layers[layer], fed));
      const shapes = JSON.stringify(Object.entries(fed).map(([name, { dims }]) => [name, dims]));
      const opened =
        sessions.get(shapes) ?? openSession(lossGraph(layers[layer], hidden, options), { threads });
      sessions.set(shapes, opened);
      const outputs = await (
        await opened
      ).run({ ...fed, ...(await scales[layer]), stream: fedRotation(stream), heads: fedRotation(heads) });
      return {
        loss: Number(outputs.loss.data[0]),
        stream: outputs['stream.gradient'],
        heads: outputs['heads.gradient'],
      };
    },
    async release() {
      for (const opened of [energies, ...sessions.values()]) await (await opened).release();
    },
  };
}

export const fedRotation = ({ size, values }: Rotation): Tensor => tensor('float32', [size, size], values);

const readName = (site: number, reader: number) => `read.${site}.${reader}`;
const writeName = (site: number) => `write.${site}`;

/** The layer's weights are read anew each time: they may be on the disk. */
function feedsOf({ reads, writes, headSize }: LayerSites, hidden: number): () => Record<string, Tensor> {
  const matrix = ({ matrix: { shape, dense } }: ReadSite['readers'][number] | WriteSite) =>
    tensor('float32', shape, dense());
  return () => {
    const fed: Record<string, Tensor> = {};
    for (const [site, { readers, moments, samples }] of reads.entries()) {
      fed[`moments.${site}`] = tensor('float32', [hidden, hidden], moments);
      fed[`samples.${site}`] = tensor('float32', [samples.length / hidden, hidden], samples);
      for (const [index, reader] of readers.entries()) fed[readName(site, index)] = matrix(reader);
    }
    for (const [site, write] of writes.entries()) {
      const { moments, ofHeads } = write;
      const shape = ofHeads ? [moments.length / headSize ** 2, headSize, headSize] : [moments.length];
      fed[`write.moments.${site}`] = tensor('float32', shape, moments);
      fed[writeName(site)] = matrix(write);
    }
    return fed;
  };
}

/** A session for sum((W S) * W) and sum(W^2). */
function energySession(threads: number | undefined): Promise<Session> {
  const graph = new Graph();
  const w = graph.input('w', 'float32', ['rows', 'columns']);
  const s = graph.input('s', 'float32', ['columns', 'columns']);
  graph.output('energy', reduceSum(mul(matmul(w, s), w), [0, 1]));
  graph.output('size', reduceSum(mul(w, w), [0, 1]));
  return openSession(graph, { threads });
}

/** One over each matrix's mean squared outputs, and for readers the sum of squared weights over it. */
async function outputScales(
  session: Session,
  { reads, writes }: LayerSites,
  fed: Feeds,
): Promise<Record<string, Tensor>> {
  const scalars: Record<string, Tensor> = {};
  const put = (name: string, value: number) => {
    scalars[name] = tensor('float32', [], Float32Array.of(Number.isFinite(value) ? value : 0));
  };
  for (const [site, { readers }] of reads.entries()) {
    for (const index of readers.keys()) {
      const name = readName(site, index);
      const found = await session.run({ w: fed[name], s: fed[`moments.${site}`] });
      const [energy, size] = [Number(found.energy.data[0]), Number(found.size.data[0])];
      put(`${name}.scale`, 1 / energy);
      put(`${name}.noise`, size / energy);
    }
  }
  for (const site of writes.keys()) {
    put(`${writeName(site)}.scale`, 1 / writtenEnergy(fed[writeName(site)], fed[`write.moments.${site}`]));
  }
  return scalars;
}

/** Of inputs that are taken as independent of each other, but within heads. */
function writtenEnergy(weight: Tensor, moments: Tensor): number {
  const [values, s] = [weight.data as Float32Array, moments.data as Float32Array];
  const [rows, columns] = weight.dims;
  const size = moments.dims.length > 1 ? moments.dims[1] : 1;
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      const start = i - (i % size);
      for (let j = 0; j < size; j++) {
        sum += values[row * columns + i] * values[row * columns + start + j] * s[i * size + j];
      }
    }
  }
  return sum;
}

function lossGraph({ reads, writes, headSize }: LayerSites, hidden: number, options: LossOptions): Graph {
  const graph = new Graph();
  const input = (name: string, shape: Shape) => graph.input(name, 'float32', shape);
  const stream = input('stream', [hidden, hidden]);
  const heads = input('heads', [headSize, headSize]);
  const terms: Value[] = [];
  for (const [site, { readers, samples }] of reads.entries()) {
    const moments = input(`moments.${site}`, [hidden, hidden]);
    const spread = reduceSum(mul(stream, matmul(moments, stream)), [0]);
    const turned = matmul(input(`samples.${site}`, [samples.length / hidden, hidden]), stream);
    const noise = inputNoise(turned, options.inputBits);
    for (const [index, reader] of readers.entries()) {
      const name = readName(site, index);
      const { shape } = reader.matrix;
      const weight = input(name, shape);
      const own = matmul(reader.ofHeads ? rowsTurned(weight, heads) : weight, stream);
      terms.push(mul(rounding(own, spread, options), input(`${name}.scale`, [])));
      terms.push(mul(noise, input(`${name}.noise`, [])));
    }
  }
  for (const [site, { matrix, moments, ofHeads }] of writes.entries()) {
    const name = writeName(site);
    const weight = input(name, matrix.shape);
    const count = moments.length / headSize ** 2;
    const given = input(`write.moments.${site}`, ofHeads ? [count, headSize, headSize] : [moments.length]);
    const own = fusedMatmul(stream, ofHeads ? columnsTurned(weight, heads) : weight, { transA: true });
    const spread = ofHeads ? headSpread(given, heads) : given;
    terms.push(mul(rounding(own, spread, options), input(`${name}.scale`, [])));
  }
  const matrices = reads.reduce((sum, { readers }) => sum + readers.length, writes.length);
  const loss = scale(terms.reduce(add), 1 / matrices);
  const [toStream, toHeads] = gradient(loss, [stream, heads]);
  graph.output('loss', loss);
  graph.output('stream.gradient', toStream);
  graph.output('heads.gradient', toHeads);
  return graph;
}

/** H^T W for each head's rows. */
function rowsTurned(weight: Value, heads: Value): Value {
  const [rows, columns] = weight.shape as readonly number[];
  const size = heads.shape[0] as number;
  const split = reshape(weight, [rows / size, size, columns]);
  return reshape(matmul(transpose(heads), split), [rows, columns]);
}

/** W H for each head's columns. */
function columnsTurned(weight: Value, heads: Value): Value {
  const [rows, columns] = weight.shape as readonly number[];
  const size = heads.shape[0] as number;
  return reshape(matmul(reshape(weight, [(rows * columns) / size, size]), heads), [rows, columns]);
}

/** Diagonals of H^T S H by head, [heads * headSize]. */
function headSpread(moments: Value, heads: Value): Value {
  const [count, size] = moments.shape as readonly number[];
  return reshape(reduceSum(mul(matmul(moments, heads), heads), [1]), [count * size]);
}

/** Sum of s^2 / 12 times the moments of the group's inputs. */
function rounding(weight: Value, spread: Value, { bits, group }: LossOptions): Value {
  const [rows, columns] = weight.shape as readonly number[];
  const length = group > 0 && columns % group === 0 ? group : columns;
  const groups = columns / length;
  const split = reshape(weight, [rows, groups, length]);
  const range = add(reduceMax(split, [2]), reduceMax(neg(split), [2]));
  const squares = reduceSum(mul(range, range), [0]);
  const energy = reduceSum(reshape(spread, [groups, length]), [1]);
  return scale(reduceSum(mul(squares, energy), [0]), 1 / (12 * (2 ** bits - 1) ** 2));
}

/** Mean of s^2 / 12 over tokens, where each is rounded evenly around zero. */
function inputNoise(x: Value, bits: number): Value {
  const largest = reduceMax(abs(x), [1]);
  return scale(reduceMean(mul(largest, largest), [0]), 1 / (12 * (2 ** (bits - 1) - 1) ** 2));
}
