/** How far a block with other matrices is from what it should compute, for methods that train blocks. */

import type { Encoding } from '../../encodings/encoding.ts';
import type { Value } from '../../graph/graph.ts';
import { Graph } from '../../graph/graph.ts';
import { matmul, mul, reduceMean, sub } from '../../graph/ops.ts';
import type { Feeds, SessionOptions } from '../../graph/session.ts';
import { feedsOf, openSession } from '../../graph/session.ts';
import { plainScope } from '../../models/build.ts';
import type { Model } from '../../models/model.ts';
import { stored } from '../../base/tensor.ts';
import type { Sequence } from './batches.ts';
import { batchOf } from './batches.ts';

export interface BlockInTraining {
  readonly model: Model;
  readonly layer: number;
  /** What stands in for the block's matrices: an input of the graph, or made of inputs. */
  readonly matrices: ReadonlyMap<string, Encoding>;
  readonly sequences: readonly Sequence[];
  /** Sequences of a batch. */
  readonly size: number;
  /** Errors e [hidden] count as e M e^T, M row-major [hidden, hidden] and symmetric; as e e^T without it. */
  readonly metric?: Float32Array | undefined;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  /** Where weights that stay as they are come from. */
  readonly weightsAs: Graph['weightsAs'];
}

/** The mean squared error of what the block gives for a batch, tokens weighted. */
export function blockLoss(block: BlockInTraining): Value {
  const { model, layer, matrices, sequences, size, metric, weightsAs } = block;
  const { architecture, config, vectors } = model;
  const [time, hidden] = sequences[0].shape;
  const graph = new Graph(weightsAs);
  const find = (name: string) => matrices.get(name) ?? model.matrices.get(name);
  const scope = plainScope(graph, config, { matrices: { get: find }, vectors }, { time });
  const given = architecture.block(scope, graph.input('x', 'float32', [size, time, hidden]), layer);
  const error = sub(given, graph.input('target', 'float32', [size, time, hidden]));
  const weights = graph.input('weights', 'float32', [size, time, 1]);
  const measured = metric
    ? matmul(error, graph.weight('metric', stored('float32', [hidden, hidden], metric)))
    : error;
  return reduceMean(mul(mul(measured, error), weights), [0, 1, 2]);
}

/** Sequences that decide whether training was of use, at least: it may not be where text is little. */
const judges = 32;

/** @returns the candidate with the least loss, of the first few sequences */
export async function leastLoss(block: BlockInTraining, candidates: readonly Feeds[]): Promise<Feeds> {
  const loss = blockLoss(block);
  loss.graph.output('loss', loss);
  const { sequences, size, weightsAs } = block;
  const session = await openSession(loss.graph, block.session);
  const fixed = weightsAs === 'inputs' ? feedsOf(loss.graph.weights) : {};
  const batches = Math.min(Math.ceil(judges / size), Math.floor(sequences.length / size));
  try {
    const sums = candidates.map(() => 0);
    for (let start = 0; start < batches * size; start += size) {
      const indices = Array.from({ length: size }, (_, i) => start + i);
      const batch = batchOf(sequences, indices);
      for (const [i, parameters] of candidates.entries()) {
        sums[i] += Number((await session.run({ ...fixed, ...batch, ...parameters })).loss.data[0]);
      }
    }
    return candidates[sums.indexOf(Math.min(...sums))];
  } finally {
    await session.release();
  }
}
