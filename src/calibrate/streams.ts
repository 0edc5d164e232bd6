/** Hidden states of the calibration text on their way through the blocks, in batches. */

import { idsTensor } from '../models/runner.ts';
import type { PartOptions, Runner, Stage } from '../models/runner.ts';
import type { Tensor } from '../graph/session.ts';
import type { Statistic } from '../methods/contract.ts';
import type { Needs, TokenWeights } from './statistics.ts';
import { openCollector } from './statistics.ts';

/** Tokens of one run. */
const batchTokens = 2048;

/** Sequences of one run. */
const rowsOf = ([{ length }]: readonly Int32Array[], most: number) => Math.max(1, Math.floor(most / length));

/** Tokens of the smallest run, of at most so many. */
export function fewestTokens(sequences: readonly Int32Array[], most = batchTokens): number {
  if (sequences.length === 0) return Number.POSITIVE_INFINITY;
  const rows = rowsOf(sequences, most);
  return (sequences.length % rows || rows) * sequences[0].length;
}

/** Hidden states [rows, time, hidden], batch after batch. */
export async function embedded(
  runner: Runner,
  sequences: readonly Int32Array[],
  weights: PartOptions['weights'],
  signal?: AbortSignal,
): Promise<Tensor[]> {
  const rows = rowsOf(sequences, batchTokens);
  const stage = await runner.embed({ weights });
  const hidden: Tensor[] = [];
  for (let start = 0; start < sequences.length; start += rows) {
    signal?.throwIfAborted();
    const ids = idsTensor(sequences.slice(start, start + rows), runner.model.config.vocabulary);
    hidden.push((await stage.run({ ids })).hidden);
  }
  await stage.release();
  return hidden;
}

/** Replaces each batch when its next hidden states are there. */
export async function forward(stage: Stage, hidden: Tensor[], signal?: AbortSignal): Promise<void> {
  for (const [index, x] of hidden.entries()) {
    signal?.throwIfAborted();
    hidden[index] = (await stage.run({ x }, ['hidden'])).hidden;
  }
  await stage.release();
}

/** A part of the model with its weights, and what it is fed. */
export interface Fed {
  readonly open: (options: PartOptions) => Promise<Stage>;
  readonly hidden: readonly Tensor[];
  /** Of tokens, for the layers that weigh them. */
  readonly importance?: TokenWeights | undefined;
  /** Whether the graph is one of several for a block, whose memory would add up. */
  readonly temporary?: boolean | undefined;
}

/**
 * What the part's linear layers need, over all batches.
 * @param original the same part before it was compressed, with what the original model feeds it; for "cross"
 */
export async function collect(
  needs: Needs,
  { open, hidden, importance, temporary }: Fed,
  original: Fed | undefined,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, Statistic>> {
  if ([...needs.values()].every((kind) => kind === 'none')) return new Map();
  const collector = openCollector(needs, importance);
  // A head's logits would be the largest thing of all.
  const stage = await open({ extend: collector.extend, extensionOnly: true, temporary });
  const before =
    collector.originals.length > 0
      ? await original!.open({ extend: collector.extendOriginal, extensionOnly: true, temporary })
      : undefined;
  let first = 0;
  for (const [index, x] of hidden.entries()) {
    signal?.throwIfAborted();
    const tokens = x.dims[0] * x.dims[1];
    const seen = before && (await before.run({ x: original!.hidden[index] }, collector.originals));
    const feeds = { x, ...collector.feeds(first, tokens), ...seen };
    collector.take(await stage.run(feeds, collector.outputs), tokens);
    first += tokens;
  }
  await stage.release();
  await before?.release();
  return collector.statistics();
}
