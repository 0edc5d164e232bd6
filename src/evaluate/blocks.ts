/**
 * Scores a model in memory, block by block: hidden states of many sequences pass through one block after another, so
 * that memory holds one block, the hidden states and one chunk of logits.
 */

import type { Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import { embedded, forward } from '../models/hidden.ts';
import type { Model } from '../models/model.ts';
import type { Runner } from '../models/runner.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import type { LogitChunk, Scorer, ScorerOptions } from './scorer.ts';
import { cutsOf, rowsOf } from './scorer.ts';

/** Hidden states kept at once. */
const hiddenBytes = 256 * 2 ** 20;
/** Tokens of one run, padding included. */
const batchTokens = 2048;

/** What a model makes of some sequences, in front of its head. */
interface Passed {
  /** Indices of the sequences, by batch. */
  readonly batches: readonly (readonly number[])[];
  readonly hidden: readonly Tensor[];
}

/** A scorer over a model, plain or compressed. Where the same sequences are asked for again, only the head runs again. */
export function modelScorer(model: Model, options: ScorerOptions = {}): Scorer {
  const { vocabulary, hidden } = model.config;
  const { rows = rowsOf(vocabulary), ...session } = options;
  let last: (Passed & { readonly of: readonly Int32Array[] }) | undefined;
  return {
    vocabulary,
    close: async () => {
      last = undefined;
    },
    async *score(sequences, signal) {
      const longest = sequences.reduce((length, sequence) => Math.max(length, sequence.length), 1);
      const runner = openRunner(model, { ...session, longest });
      const most = Math.max(longest, Math.floor(hiddenBytes / (4 * hidden)));
      try {
        const all = portions(sequences, most);
        for (const members of all) {
          const again = last?.of === sequences ? last : undefined;
          last = undefined;
          const passed = again ?? (await passedBy(runner, sequences, members, signal));
          if (all.length === 1) last = { ...passed, of: sequences };
          yield* logitsOf(runner, sequences, { passed, members, most: rows, signal });
        }
      } finally {
        await runner.release();
      }
    },
  };
}

/** Consecutive sequences of no more than `most` tokens together. */
function portions(sequences: readonly Int32Array[], most: number): number[][] {
  const result: number[][] = [];
  let room = 0;
  sequences.forEach((sequence, index) => {
    if (sequence.length > room) {
      result.push([]);
      room = most;
    }
    result.at(-1)!.push(index);
    room -= sequence.length;
  });
  return result;
}

async function passedBy(
  runner: Runner,
  sequences: readonly Int32Array[],
  members: readonly number[],
  signal: AbortSignal | undefined,
): Promise<Passed> {
  const { vocabulary, hidden: width, layers } = runner.model.config;
  const batches = batchesOf(sequences, members);
  const ids = batches.map((rows) =>
    idsTensor(
      rows.map((index) => sequences[index]),
      vocabulary,
    ),
  );
  const hidden = await embedded(await runner.embed(), ids, width, signal);
  for (const layer of layers.keys()) await forward(await runner.block(layer), hidden, signal);
  return { batches, hidden: [...hidden] };
}

interface Heading {
  readonly passed: Passed;
  readonly members: readonly number[];
  /** Rows of logits at once. */
  readonly most: number;
  readonly signal: AbortSignal | undefined;
}

async function* logitsOf(
  runner: Runner,
  sequences: readonly Int32Array[],
  { passed: { batches, hidden }, members, most, signal }: Heading,
): AsyncGenerator<LogitChunk> {
  const { vocabulary } = runner.model.config;
  const places = new Map(
    batches.flatMap((rows, batch) => rows.map((index, row) => [index, { batch, row }] as const)),
  );
  const head = await runner.head();
  const room = new Float32Array(most * vocabulary);
  for (const index of members) {
    const { batch, row } = places.get(index)!;
    for (const { start, rows } of cutsOf(sequences[index].length, most)) {
      signal?.throwIfAborted();
      const x = slice(hidden[batch], row, start, rows);
      const place = tensor('float32', [1, rows, vocabulary], room.subarray(0, rows * vocabulary));
      const { logits } = await head.run({ x }, { logits: place });
      yield { sequence: index, start, rows, logits: logits!.reshape([rows, vocabulary]) };
    }
  }
  await head.release();
}

/** Sequences of similar length together, so that little is padded. */
function batchesOf(sequences: readonly Int32Array[], members: readonly number[]): number[][] {
  const byLength = [...members].sort((a, b) => sequences[b].length - sequences[a].length);
  const result: number[][] = [];
  let width = 0;
  for (const index of byLength) {
    const current = result.at(-1);
    if (!current || (current.length + 1) * width > batchTokens) {
      width = sequences[index].length;
      result.push([index]);
    } else {
      current.push(index);
    }
  }
  return result;
}

/** Positions of one row of [rows, time, size] as [1, count, size]; shares the memory. */
function slice({ data, dims }: Tensor, row: number, start: number, count: number): Tensor {
  const [, time, size] = dims;
  const from = (row * time + start) * size;
  return tensor('float32', [1, count, size], (data as Float32Array).subarray(from, from + count * size));
}
