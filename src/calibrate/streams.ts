/** Hidden states of the calibration text on their way through the blocks, in batches. */

import { idsTensor } from '../models/runner.ts';
import type { PartOptions, Runner, Stage } from '../models/runner.ts';
import type { Feeds, Tensor } from '../graph/session.ts';
import type { Cut } from '../models/cut.ts';
import type { Statistic } from '../methods/contract.ts';
import type { Needs, TokenWeights } from './statistics.ts';
import { openCollector } from './statistics.ts';

/** Tokens of one run. */
const batchTokens = 2048;

/** What a slice keeps is worth its memory up to so many times the hidden states, or so many bytes. */
export const narrow = 3;
export const fewBytes = 2 ** 29;

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
  /** Batch by batch: hidden states "x", or what a slice has kept of them. */
  readonly feeds: Feeds[];
  /** The stage whose slice has kept them; -1 for hidden states. */
  at: number;
  /** Of hidden states. */
  readonly width: number;
  /** Of each batch. */
  readonly tokens: readonly number[];
  /** Of tokens, for the layers that weigh them. */
  readonly importance?: TokenWeights | undefined;
  /** Whether the graph is one of several for a block, whose memory would add up. */
  readonly temporary?: boolean | undefined;
}

export const fedBy = (
  hidden: readonly Tensor[],
  part: Pick<Fed, 'open' | 'importance' | 'temporary'>,
): Fed => ({
  ...part,
  feeds: hidden.map((x) => ({ x })),
  at: -1,
  width: hidden[0]?.dims[2] ?? 0,
  tokens: hidden.map(({ dims }) => dims[0] * dims[1]),
});

/**
 * What the part's linear layers need, over all batches.
 * @param original the same part before it was compressed, with what the original model feeds it; for "cross"
 * @param cut the stage of a cut block that asks; afterwards both are fed what is kept there, if it is
 */
export async function collect(
  needs: Needs,
  ours: Fed,
  original: Fed | undefined,
  {
    signal,
    cut,
  }: { readonly signal?: AbortSignal | undefined; readonly cut?: Omit<Cut, 'from'> | undefined },
): Promise<ReadonlyMap<string, Statistic>> {
  if (!cut && [...needs.values()].every((kind) => kind === 'none')) return new Map();
  const collector = openCollector(needs, ours.importance);
  // A head's logits would be the largest thing of all.
  const openPart = ({ open, temporary, at }: Fed, extend: PartOptions['extend']) =>
    open({ extend, extensionOnly: true, temporary, cut: cut && { ...cut, from: at } });
  const stage = await openPart(ours, collector.extend);
  const before =
    original && (cut || collector.originals.length > 0)
      ? await openPart(original, collector.extendOriginal)
      : undefined;
  const keeps = cut !== undefined && isKept(stage, ours);
  let first = 0;
  for (const [index, tokens] of ours.tokens.entries()) {
    signal?.throwIfAborted();
    const seen = before && (await advance(before, original!, index, { outputs: collector.originals, keeps }));
    const known = { ...collector.feeds(first, tokens), ...seen };
    collector.take(await advance(stage, ours, index, { outputs: collector.outputs, known, keeps }), tokens);
    first += tokens;
  }
  for (const fed of [ours, original]) if (fed && keeps) fed.at = cut.at;
  await stage.release();
  await before?.release();
  return collector.statistics();
}

/** What is wide and much is computed again from where it was narrower: memory is dearer than time. */
function isKept({ kept }: Stage, { tokens, width }: Fed): boolean {
  const own = kept.reduce((sum, each) => sum + each.width, 0);
  const bytes = 4 * own * tokens.reduce((sum, each) => sum + each, 0);
  return own <= narrow * width || bytes <= fewBytes;
}

interface Run {
  readonly outputs: readonly string[];
  /** Feeds besides the batch. */
  readonly known?: Feeds;
  /** Whether the batch is replaced by what the slice keeps. */
  readonly keeps: boolean;
}

/** Runs a batch. @returns the outputs asked for */
async function advance(
  stage: Stage,
  { feeds }: Fed,
  index: number,
  { outputs, known, keeps }: Run,
): Promise<Record<string, Tensor>> {
  const [{ kept }, fed] = [stage, feeds[index]];
  const computed = kept.flatMap(({ name, passed }) => (keeps && passed === undefined ? [name] : []));
  const wanted = [...outputs, ...computed];
  const results = wanted.length > 0 ? await stage.run({ ...fed, ...known }, wanted) : {};
  if (keeps)
    feeds[index] = Object.fromEntries(
      kept.map(({ name, passed }) => [name, passed === undefined ? results[name] : fed[passed]]),
    );
  return Object.fromEntries(outputs.map((name) => [name, results[name]]));
}

/** The rest of the way, behind the last stage: hidden states, batch by batch. */
export async function finishSlices(
  { open, feeds, temporary, at }: Fed,
  stages: Cut['stages'],
  signal?: AbortSignal,
): Promise<Tensor[]> {
  const stage = await open({ temporary, cut: { stages, from: at, at: stages.length } });
  const hidden: Tensor[] = [];
  for (const index of feeds.keys()) {
    signal?.throwIfAborted();
    hidden.push((await stage.run(feeds[index], ['hidden'])).hidden);
    feeds[index] = {};
  }
  await stage.release();
  return hidden;
}
