/**
 * Logits to one number a token, inside the engine: a row of logits is as long as the vocabulary, and nothing outside
 * ever needs to see it.
 */

import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import {
  argMax,
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

/** What two models predict, in vectors of one number a token, in the order of the rows. */
export interface Comparison {
  /** Negative log-likelihood of the target under the compressed model. */
  readonly nats: Float32Array;
  /** Under the original. */
  readonly originalNats: Float32Array;
  /** KL(original || compressed), in nats. */
  readonly kl: Float32Array;
  /** The compressed model's most likely token, and its negative log-likelihood there. */
  readonly top: Int32Array;
  readonly topNats: Float32Array;
  /** The original's. */
  readonly originalTop: Int32Array;
  readonly originalTopNats: Float32Array;
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
    return (await session).run(feeds);
  };
  return {
    async losses(logits, targets) {
      return floats((await run(lossesGraph, { logits, targets: ids(targets) })).nats);
    },
    async compare(original, compressed, targets) {
      const result = await run(comparisonGraph, { original, compressed, targets: ids(targets) });
      return {
        nats: floats(result.nats),
        originalNats: floats(result.originalNats),
        // Rounding makes a divergence of nothing slightly negative.
        kl: floats(result.kl).map((value) => Math.max(value, 0)),
        top: Int32Array.from(result.top.data as BigInt64Array, Number),
        topNats: floats(result.topNats),
        originalTop: Int32Array.from(result.originalTop.data as BigInt64Array, Number),
        originalTopNats: floats(result.originalTopNats),
      };
    },
    async close() {
      for (const session of opened.values()) await (await session).release();
    },
  };
}

const floats = ({ data }: Tensor) => data as Float32Array;

function ids(targets: Int32Array): Tensor {
  return tensor('int64', [targets.length], BigInt64Array.from(targets, BigInt));
}

function buildLosses(vocabulary: number): Graph {
  const graph = new Graph();
  const logits = graph.input('logits', 'float32', ['rows', vocabulary]);
  const targets = graph.input('targets', 'int64', ['rows']);
  graph.output('nats', lossOf(logSoftmax(logits), targets));
  return graph;
}

/** KL(p || q) = sum p (log p - log q), p the original. */
function buildComparison(vocabulary: number): Graph {
  const graph = new Graph();
  const original = graph.input('original', 'float32', ['rows', vocabulary]);
  const compressed = graph.input('compressed', 'float32', ['rows', vocabulary]);
  const targets = graph.input('targets', 'int64', ['rows']);
  const [p, q] = [logSoftmax(original), logSoftmax(compressed)];
  graph.output('kl', reduceSum(mul(exp(p), sub(p, q)), [1]));
  const [originalTop, top] = [argMax(original), argMax(compressed)];
  graph.output('nats', lossOf(q, targets));
  graph.output('originalNats', lossOf(p, targets));
  graph.output('top', top);
  graph.output('topNats', lossOf(q, top));
  graph.output('originalTop', originalTop);
  graph.output('originalTopNats', lossOf(p, originalTop));
  return graph;
}

/** Of log-probabilities [rows, vocabulary] at one token a row. */
const lossOf = (logs: Value, tokens: Value): Value =>
  neg(squeeze(gatherElements(logs, unsqueeze(tokens, [1]), 1), [1]));
