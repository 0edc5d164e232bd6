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
      const nats = new Float32Array(targets.length);
      for (const { at, rows, of } of slicesOf(targets, vocabulary)) {
        const found = await run(lossesGraph, { logits: rowsIn(logits, at, rows), targets: of });
        nats.set(floats(found.nats), at);
      }
      return nats;
    },
    async compare(original, compressed, targets) {
      const comparison = emptyComparison(targets.length);
      for (const { at, rows, of } of slicesOf(targets, vocabulary)) {
        const found = await run(comparisonGraph, {
          original: rowsIn(original, at, rows),
          compressed: rowsIn(compressed, at, rows),
          targets: of,
        });
        for (const [name, values] of Object.entries(comparison)) values.set(plain(found[name]!), at);
      }
      // Rounding makes a divergence of nothing slightly negative.
      return { ...comparison, kl: comparison.kl.map((value) => Math.max(value, 0)) };
    },
    async close() {
      for (const session of opened.values()) await (await session).release();
    },
  };
}

/** Of so many tokens, to be filled. */
export function emptyComparison(length: number): Comparison {
  const values = () => new Float32Array(length);
  const tokens = () => new Int32Array(length);
  return {
    nats: values(),
    originalNats: values(),
    kl: values(),
    top: tokens(),
    topNats: values(),
    originalTop: tokens(),
    originalTopNats: values(),
  };
}

/** Bytes of logits that are compared at once: what is made of them on the way takes several times as many. */
const sliceBytes = 4 * 2 ** 20;

function* slicesOf(targets: Int32Array, vocabulary: number) {
  const most = Math.max(1, Math.floor(sliceBytes / (4 * vocabulary)));
  for (let at = 0; at < targets.length; at += most) {
    const of = targets.subarray(at, at + most);
    yield { at, rows: of.length, of: tensor('int64', [of.length], BigInt64Array.from(of, BigInt)) };
  }
}

/** Rows of [rows, vocabulary]; shares the memory. */
function rowsIn({ data, dims }: Tensor, at: number, rows: number): Tensor {
  const vocabulary = dims[1]!;
  const values = (data as Float32Array).subarray(at * vocabulary, (at + rows) * vocabulary);
  return tensor('float32', [rows, vocabulary], values);
}

const floats = ({ data }: Tensor) => data as Float32Array;

const plain = ({ data }: Tensor): Float32Array | Int32Array =>
  data instanceof BigInt64Array ? Int32Array.from(data, Number) : (data as Float32Array);

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
