/**
 * Logits to one number a token, inside the engine: a row of logits is as long as the vocabulary, and nothing outside
 * ever needs to see it.
 */

import { Graph } from '../graph/graph.ts';
import {
  argMax,
  cast,
  equal,
  exp,
  gatherElements,
  logSoftmax,
  mul,
  neg,
  reduceSum,
  squeeze,
  sub,
  unsqueeze,
} from '../graph/ops.ts';
import type { Session, SessionOptions, Tensor } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';

/** Per-token vectors, in the order of the rows. */
export interface Comparison {
  /** Negative log-likelihood of the target under the compressed model. */
  readonly nats: Float32Array;
  /** KL(original || compressed), in nats. */
  readonly kl: Float32Array;
  /** 1 where both models' most likely tokens are equal, else 0. */
  readonly same: Float32Array;
}

export interface Reducer {
  /** @param logits float32 [rows, vocabulary]; @returns negative log-likelihoods of the targets [rows] */
  losses(logits: Tensor, targets: Int32Array): Promise<Float32Array>;
  compare(original: Tensor, compressed: Tensor, targets: Int32Array): Promise<Comparison>;
  close(): Promise<void>;
}

/** Both graphs are small and are loaded when first asked for. */
export function openReducer(vocabulary: number, options: SessionOptions = {}): Reducer {
  const opened = new Map<() => Graph, Promise<Session>>();
  const lossesGraph = () => buildLosses(vocabulary);
  const comparisonGraph = () => buildComparison(vocabulary);
  const run = async (build: () => Graph, feeds: Record<string, Tensor>) => {
    const session = opened.get(build) ?? openSession(build(), options);
    opened.set(build, session);
    const outputs = await (await session).run(feeds);
    return (name: string) => outputs[name].data as Float32Array;
  };
  return {
    async losses(logits, targets) {
      return (await run(lossesGraph, { logits, targets: ids(targets) }))('nats');
    },
    async compare(original, compressed, targets) {
      const result = await run(comparisonGraph, { original, compressed, targets: ids(targets) });
      // Rounding makes a divergence of nothing slightly negative.
      const kl = result('kl').map((value) => Math.max(value, 0));
      return { nats: result('nats'), kl, same: result('same') };
    },
    async close() {
      for (const session of opened.values()) await (await session).release();
    },
  };
}

function ids(targets: Int32Array): Tensor {
  return tensor('int64', [targets.length], BigInt64Array.from(targets, BigInt));
}

function buildLosses(vocabulary: number): Graph {
  const graph = new Graph();
  const logits = graph.input('logits', 'float32', ['rows', vocabulary]);
  const targets = graph.input('targets', 'int64', ['rows']);
  const logs = logSoftmax(logits);
  graph.output('nats', neg(squeeze(gatherElements(logs, unsqueeze(targets, [1]), 1), [1])));
  return graph;
}

/** KL(p || q) = sum p (log p - log q), p the original. */
function buildComparison(vocabulary: number): Graph {
  const graph = new Graph();
  const original = graph.input('original', 'float32', ['rows', vocabulary]);
  const compressed = graph.input('compressed', 'float32', ['rows', vocabulary]);
  const targets = graph.input('targets', 'int64', ['rows']);
  const [p, q] = [logSoftmax(original), logSoftmax(compressed)];
  graph.output('nats', neg(squeeze(gatherElements(q, unsqueeze(targets, [1]), 1), [1])));
  graph.output('kl', reduceSum(mul(exp(p), sub(p, q)), [1]));
  graph.output('same', cast(equal(argMax(original), argMax(compressed)), 'float32'));
  return graph;
}
