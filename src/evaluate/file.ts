/**
 * Scores an exported ONNX file as its users run it: token by token chunks through its cache. Names and shapes are those that
 * transformers.js expects (input_ids, attention_mask, past_key_values.N.key, logits, present.N.key; past_conv.N,
 * present_conv.N of layers that keep a state of one size instead of all keys and values).
 */

import { LapidaryError } from '../base/errors.ts';
import { halfToFloat } from '../base/half.ts';
import { elementCount } from '../base/tensor.ts';
import type { Graph } from '../graph/graph.ts';
import type { Feeds, Session, SessionOptions, Tensor } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';
import type { Scorer, ScorerOptions } from './scorer.ts';
import { cutsOf, rowsOf } from './scorer.ts';

/** The cache of one sequence: feeds for the next run. */
export type Cache = Feeds;

export interface Stepped {
  readonly logits: Tensor;
  readonly cache: Cache;
  /** Outputs that were asked for when the file was opened. */
  readonly others: Readonly<Record<string, Tensor>>;
}

export interface FileRunner {
  readonly vocabulary: number;
  /** Whether the engine gives logits as float32, and writes them into a place for such. */
  readonly plain: boolean;
  /** Whether a cache can be cut to the first of its tokens: not where a state holds all of them together. */
  readonly cuttable: boolean;
  /** A cache with nothing in it, for so many sequences, one where it is not said. */
  empty(rows?: number): Cache;
  /**
   * Runs tokens behind those in the cache.
   * @param tokens of all sequences, as many of each; several sequences take one token each behind a cache
   * @param keep how many of the last positions' logits are wanted; 0: all
   * @param rows sequences, one where it is not said
   * @param place what the logits are written into, where they are as many and plain; those of an earlier step, if nobody
   *   reads them
   * @returns logits float32 [rows, tokens or keep, vocabulary] whatever the file computes in, and the cache with the tokens in it
   */
  step(
    tokens: Int32Array,
    past: number,
    cache: Cache,
    keep: number,
    rows?: number,
    place?: Tensor,
  ): Promise<Stepped>;
  close(): Promise<void>;
}

/**
 * @param options.others names of outputs that steps give besides
 * @throws LapidaryError on a file that the engine refuses, or that is not a language model with a cache
 */
export async function openFile(
  source: string | Graph,
  { others = [], ...options }: SessionOptions & { readonly others?: readonly string[] } = {},
): Promise<FileRunner> {
  const path = typeof source === 'string' ? source : 'the model in memory';
  const session = await openSession(source, options);
  const names = new Set(session.inputs.map(({ name }) => name));
  const logits = session.outputs.find(({ name }) => name === 'logits');
  const vocabulary = logits?.shape.at(-1);
  const plain = logits?.dtype === 'float32';
  const pasts = session.inputs.filter(({ name }) => /^past_\w+\.\d/.test(name));
  if (!names.has('input_ids') || typeof vocabulary !== 'number') {
    await session.release();
    throw new LapidaryError({
      what: 'this ONNX file is not a language model that can be evaluated',
      where: path,
      expected:
        'inputs input_ids, attention_mask, past_key_values.N.key and .value; output logits of known width',
      found: `inputs ${[...names].join(', ')}; outputs ${session.outputs.map(({ name }) => name).join(', ')}`,
    });
  }
  return {
    vocabulary,
    plain,
    cuttable: pasts.every(({ name }) => name.startsWith(keysAndValues)),
    empty: (rows = 1) =>
      Object.fromEntries(
        pasts.map(({ name, dtype, shape }) => [
          name,
          emptyPast(path, name, dtype, [rows, ...shape.slice(1)]),
        ]),
      ),
    step: (tokens, past, cache, keep, rows = 1, place = undefined) =>
      step(session, names, {
        tokens,
        past,
        cache,
        keep,
        batch: rows,
        place: plain ? place : undefined,
        others,
      }),
    close: () => session.release(),
  };
}

interface Step {
  readonly tokens: Int32Array;
  readonly past: number;
  readonly cache: Cache;
  readonly keep: number;
  readonly batch: number;
  readonly place: Tensor | undefined;
  readonly others: readonly string[];
}

async function step(
  session: Session,
  names: ReadonlySet<string>,
  { tokens, past, cache, keep, batch, place, others }: Step,
): Promise<Stepped> {
  const count = tokens.length / batch;
  const feeds: Record<string, Tensor> = {
    ...cache,
    input_ids: tensor('int64', [batch, count], BigInt64Array.from(tokens, BigInt)),
  };
  if (names.has('attention_mask')) {
    const seen = new BigInt64Array(batch * (past + count)).fill(1n);
    feeds.attention_mask = tensor('int64', [batch, past + count], seen);
  }
  if (names.has('position_ids')) {
    const position = (_: unknown, index: number) => BigInt(past + (index % count));
    feeds.position_ids = tensor(
      'int64',
      [batch, count],
      BigInt64Array.from({ length: tokens.length }, position),
    );
  }
  if (names.has('num_logits_to_keep')) {
    feeds.num_logits_to_keep = tensor('int64', [], BigInt64Array.of(BigInt(keep)));
  }
  const room = placeFor(place, [batch, keep || count]);
  const wanted = session.outputs.flatMap(({ name }): [string, Tensor | null][] => {
    if (name === 'logits') return [[name, room]];
    return pastOf(name) !== undefined || others.includes(name) ? [[name, null]] : [];
  });
  const outputs = await session.run(feeds, Object.fromEntries(wanted));
  const next: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(outputs)) {
    const past = pastOf(name);
    if (past !== undefined) next[past] = value;
  }
  const besides = Object.fromEntries(others.map((name) => [name, outputs[name]]));
  return { logits: widened(outputs.logits), cache: next, others: besides };
}

const keysAndValues = 'past_key_values.';

/** The input that an output is fed back to: "present.0.key" to "past_key_values.0.key", "present_conv.0" to "past_conv.0". */
function pastOf(name: string): string | undefined {
  if (name.startsWith('present.')) return name.replace('present.', keysAndValues);
  return /^present_\w+\.\d/.test(name) ? name.replace('present_', 'past_') : undefined;
}

/** Logits that are written over, where those of so many positions are as many. */
function placeFor(place: Tensor | undefined, positions: readonly number[]): Tensor | null {
  const vocabulary = place?.dims.at(-1);
  if (!place || vocabulary === undefined) return null;
  const shape = [...positions, vocabulary];
  return place.size === elementCount(shape) ? place.reshape(shape) : null;
}

/** What an empty cache is, by type; integers are those of `measureCache`. */
const emptyData = {
  float32: Float32Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
} as const;

/**
 * A past of length 0: keys and values [rows, heads, 0, head size], heads and size from the file; a state [rows, ...] of zeros,
 * whose sizes are all in the file.
 */
function emptyPast(path: string, name: string, dtype: string, shape: readonly (number | string)[]): Tensor {
  const dims = name.startsWith(keysAndValues) && shape.length === 4 ? shape.with(2, 0) : shape;
  const types = Object.keys(emptyData);
  if (!isKnown(dims) || !types.includes(dtype)) {
    throw new LapidaryError({
      what: 'the cache of this ONNX file has no known shape',
      where: `${path}, input ${name}`,
      expected: `${types.join(', ')} [batch, heads, past, head size] with heads and head size as numbers, or a state [batch, ...] of numbers`,
      found: `${dtype} [${shape.join(', ')}]`,
    });
  }
  const type = dtype as keyof typeof emptyData;
  return tensor(type, dims, new emptyData[type](elementCount(dims)));
}

const isKnown = (shape: readonly (number | string)[]): shape is readonly number[] =>
  shape.every((size) => typeof size === 'number');

/** A scorer over an exported file; one sequence at a time. */
export async function fileScorer(path: string, options: ScorerOptions = {}): Promise<Scorer> {
  const { rows, ...session } = options;
  const runner = await openFile(path, session);
  const { vocabulary, plain } = runner;
  const most = rows ?? rowsOf(vocabulary);
  return {
    vocabulary,
    close: () => runner.close(),
    async *score(sequences, signal) {
      const room = new Float32Array(plain ? most * vocabulary : 0);
      for (const [index, sequence] of sequences.entries()) {
        let cache = runner.empty();
        for (const { start, rows } of cutsOf(sequence.length, most)) {
          signal?.throwIfAborted();
          const tokens = sequence.subarray(start, start + rows);
          const place = plain
            ? tensor('float32', [rows * vocabulary], room.subarray(0, rows * vocabulary))
            : undefined;
          const result = await runner.step(tokens, start, cache, 0, 1, place);
          cache = result.cache;
          yield { sequence: index, start, rows, logits: result.logits.reshape([rows, vocabulary]) };
        }
      }
    },
  };
}

function widened(logits: Tensor): Tensor {
  const { type, dims, data } = logits;
  return type === 'float16' ? tensor('float32', dims, halfToFloat(data as Uint16Array)) : logits;
}
