/**
 * Scores a model in memory, block by block: hidden states of many sequences pass through one block after another, so
 * that memory holds one block, the hidden states and one chunk of logits.
 */

import type { Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { Runner } from '../models/runner.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import type { LogitChunk, Scorer, ScorerOptions } from './scorer.ts';
import { cutsOf, rowsOf } from './scorer.ts';

/** Hidden states kept at once. */
const hiddenBytes = 256 * 2 ** 20;
/** Tokens of one run, padding included. */
const batchTokens = 2048;

/** A scorer over a model, plain or compressed. */
export function modelScorer(model: Model, options: ScorerOptions = {}): Scorer {
  const { vocabulary, hidden } = model.config;
  const { rows = rowsOf(vocabulary), ...session } = options;
  return {
    vocabulary,
    close: async () => {},
    async *score(sequences, signal) {
      const longest = sequences.reduce((length, sequence) => Math.max(length, sequence.length), 1);
      const runner = openRunner(model, { ...session, longest });
      const most = Math.max(longest, Math.floor(hiddenBytes / (4 * hidden)));
      try {
        for (const members of portions(sequences, most))
          yield* portion(runner, sequences, members, rows, signal);
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

interface Batch {
  /** Indices of its sequences, one a row. */
  readonly members: readonly number[];
  /** [members, longest of them, hidden] */
  hidden: Tensor;
}

async function* portion(
  runner: Runner,
  sequences: readonly Int32Array[],
  members: readonly number[],
  most: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogitChunk> {
  const { config } = runner.model;
  const batches: Batch[] = [];
  const embed = await runner.embed();
  for (const rows of batchesOf(sequences, members)) {
    signal?.throwIfAborted();
    const ids = idsTensor(
      rows.map((index) => sequences[index]),
      config.vocabulary,
    );
    batches.push({ members: rows, hidden: (await embed.run({ ids })).hidden });
  }
  await embed.release();
  for (let layer = 0; layer < config.layers.length; layer++) {
    const block = await runner.block(layer);
    for (const batch of batches) {
      signal?.throwIfAborted();
      batch.hidden = (await block.run({ x: batch.hidden })).hidden;
    }
    await block.release();
  }
  const places = new Map(
    batches.flatMap((batch) => batch.members.map((index, row) => [index, { batch, row }] as const)),
  );
  const head = await runner.head();
  for (const index of members) {
    const { batch, row } = places.get(index)!;
    for (const { start, rows } of cutsOf(sequences[index].length, most)) {
      signal?.throwIfAborted();
      const { logits } = await head.run({ x: slice(batch.hidden, row, start, rows) });
      yield { sequence: index, start, rows, logits: logits.reshape([rows, config.vocabulary]) };
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
