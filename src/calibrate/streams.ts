/** Hidden states of the calibration text on their way through the blocks, in batches. */

import { elementCount } from '../base/tensor.ts';
import { total } from '../base/total.ts';
import type { Feeds, Outputs, Tensor } from '../graph/session.ts';
import type { Statistic } from '../contract/statistic.ts';
import type { Cut, Kept } from '../models/cut.ts';
import type { Room, Size, Spare, Store } from '../models/hidden.ts';
import {
  embedded,
  leave,
  roomIn,
  roomLength,
  roomOf,
  runsOf,
  sizesOf,
  storeOf,
  tokensOf,
} from '../models/hidden.ts';
import type { PartOptions, Runner, Stage } from '../models/runner.ts';
import { idsTensor } from '../models/runner.ts';
import type { Needs, TokenWeights } from './statistics.ts';
import { openCollector } from './statistics.ts';

/** Tokens of one run. */
const batchTokens = 2048;

/** What a slice keeps is worth its memory up to so many times the hidden states, or so many bytes. */
export const narrow = 3;
export const fewBytes = 2 ** 29;

/** Sequences of one run. */
const rowsOf = ([{ length }]: readonly Int32Array[], most: number) => Math.max(1, Math.floor(most / length));

/** A share of the sequences, in whole runs of theirs. */
export function firstOf(sequences: readonly Int32Array[], share: number): readonly Int32Array[] {
  const rows = rowsOf(sequences, batchTokens);
  return sequences.slice(0, rows * Math.ceil((share * sequences.length) / rows));
}

/** Tokens of the smallest run, of at most so many. */
export function fewestTokens(sequences: readonly Int32Array[], most = batchTokens): number {
  if (sequences.length === 0) return Number.POSITIVE_INFINITY;
  const rows = rowsOf(sequences, most);
  return (sequences.length % rows || rows) * sequences[0].length;
}

/**
 * Hidden states [rows, time, hidden] of sequences of one length, batch after batch.
 * @param most tokens of a batch, but for a longer sequence
 */
export async function hiddenOf(
  runner: Runner,
  sequences: readonly Int32Array[],
  weights: PartOptions['weights'],
  signal?: AbortSignal,
  most = batchTokens,
): Promise<Tensor[]> {
  const { vocabulary, hidden } = runner.model.config;
  const rows = rowsOf(sequences, most);
  const ids = Array.from({ length: Math.ceil(sequences.length / rows) }, (_, index) =>
    idsTensor(sequences.slice(index * rows, (index + 1) * rows), vocabulary),
  );
  return embedded(await runner.embed({ weights }), ids, hidden, signal);
}

/** A part of the model with its weights, and what it is fed. */
export interface Fed {
  readonly open: (options: PartOptions) => Promise<Stage>;
  /** Batch by batch: hidden states "x", or what a slice has kept of them. */
  readonly feeds: Feeds[];
  /** Whether nobody needs the hidden states afterwards. */
  readonly used: boolean;
  /** Where what is fed is kept, by name: to be written over when no slice needs it any more. */
  rooms: ReadonlyMap<string, Room>;
  /** Of blocks before, and for blocks behind. */
  readonly spare: Spare;
  /** The stage whose slice has kept them; -1 for hidden states. */
  at: number;
  /** Of hidden states. */
  readonly width: number;
  /** Of each batch. */
  readonly sizes: readonly Size[];
  /** Of tokens, for the layers that weigh them. */
  readonly importance?: TokenWeights | undefined;
  /** Whether the graph is one of several for a block, whose memory would add up. */
  readonly temporary?: boolean | undefined;
}

export const fedBy = (
  hidden: readonly Tensor[],
  {
    used = false,
    spare = {},
    ...part
  }: Pick<Fed, 'open' | 'importance' | 'temporary'> & {
    readonly used?: boolean;
    readonly spare?: Spare | undefined;
  },
): Fed => ({
  ...part,
  used,
  spare,
  feeds: hidden.map((x) => ({ x })),
  rooms: new Map(used && hidden.length > 0 ? [['x', roomOf(hidden)]] : []),
  at: -1,
  width: hidden[0]?.dims[2] ?? 0,
  sizes: sizesOf(hidden),
});

/**
 * What the part's linear layers need, over all batches.
 * @param original the same part before it was compressed, with what the original model feeds it; for "cross", which
 *   is of as many batches
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
  const passage = await openPassage(ours, collector.extend, cut);
  const before =
    original && (cut || collector.originals.length > 0)
      ? await openPassage(original, collector.extendOriginal, original.used ? ahead(cut) : cut)
      : undefined;
  let first = 0;
  const compared = original?.sizes.length ?? 0;
  for (const [index, [rows, time]] of ours.sizes.entries()) {
    signal?.throwIfAborted();
    const tokens = rows * time;
    if (index === compared && collector.originals.length > 0) await passage.reopen(collector.extendAlone());
    const seen = index < compared ? await before?.advance(index, { names: collector.originals }) : {};
    const known = { ...collector.feeds(first, tokens), ...seen };
    collector.take(await passage.advance(index, { names: [], others: collector.outputs, known }), tokens);
    first += tokens;
  }
  await passage.close();
  await before?.close();
  return collector.statistics();
}

/** The original's weights do not wait for the last stage: behind it there is less to keep. */
const ahead = (cut: Omit<Cut, 'from'> | undefined) =>
  cut && cut.at === cut.stages.length - 1 ? { ...cut, at: cut.stages.length } : cut;

/** What is wide and much is computed again from where it was narrower: memory is dearer than time. */
function isKept(kept: readonly Kept[], { sizes, width }: Fed): boolean {
  const own = total(kept.map(({ shape }) => (shape ? elementCount(shape) : 0)));
  const bytes = 4 * own * tokensOf(sizes);
  return own <= narrow * width || bytes <= fewBytes;
}

interface Asked {
  readonly names: readonly string[];
  /** Others, with where they go. */
  readonly others?: Outputs | undefined;
  /** Feeds besides the batch. */
  readonly known?: Feeds;
}

/** A slice of a part, or the whole, that batches pass through. */
interface Passage {
  /** Runs a batch, which is replaced by what the slice keeps. @returns the outputs asked for, valid until the next run */
  advance(index: number, asked: Asked): Promise<Record<string, Tensor>>;
  /** Another extension for the batches to come. */
  reopen(extend: PartOptions['extend']): Promise<void>;
  close(): Promise<void>;
}

async function openPassage(
  fed: Fed,
  extend: PartOptions['extend'],
  cut: Omit<Cut, 'from'> | undefined,
): Promise<Passage> {
  const { at, width, sizes, feeds, spare, temporary } = fed;
  const opened = (extend: PartOptions['extend']) =>
    // A head's logits would be the largest thing of all.
    fed.open({ extend, extensionOnly: true, temporary, cut: cut && { ...cut, from: at } });
  let stage = await opened(extend);
  const toEnd = cut !== undefined && cut.at === cut.stages.length;
  const kept: readonly Kept[] = toEnd ? [{ name: 'hidden', shape: [width] }] : stage.kept;
  const keeps = cut !== undefined && isKept(kept, fed);
  let run = runsOf(stage);
  const { stores, left } = keeps ? storesFor(kept, fed) : { stores: new Map<string, Store>(), left: [] };
  const computed = keeps ? kept.filter(({ passed }) => passed === undefined) : [];
  return {
    async advance(index, { names, others, known }) {
      const before = feeds[index];
      const [rows, time] = sizes[index];
      const places = computed.map(({ name }) => [name, stores.get(name)?.place(index) ?? null] as const);
      const asked = { tokens: rows * time, names, others: { ...others, ...Object.fromEntries(places) } };
      const any = names.length + Object.keys(asked.others).length > 0;
      const found = any ? await run({ ...before, ...known }, asked) : {};
      if (keeps)
        feeds[index] = Object.fromEntries(
          kept.map(({ name, passed }) => [name, passed === undefined ? found[name] : before[passed]]),
        );
      return Object.fromEntries([...names, ...Object.keys(others ?? {})].map((name) => [name, found[name]]));
    },
    async reopen(extend) {
      await stage.release();
      stage = await opened(extend);
      run = runsOf(stage);
    },
    async close() {
      if (keeps) {
        fed.at = cut.at;
        fed.rooms = new Map(
          kept.flatMap(({ name, passed = '' }) => {
            const room = stores.get(name)?.room ?? fed.rooms.get(passed);
            return room ? [[name, room]] : [];
          }),
        );
        leave(spare, left);
      }
      await stage.release();
    },
  };
}

/**
 * Of what a slice computes of tokens and keeps: over what goes no further, where that is as large.
 * @returns besides what then lies idle
 */
function storesFor(
  kept: readonly Kept[],
  { rooms, sizes, spare }: Fed,
): { readonly stores: ReadonlyMap<string, Store>; readonly left: readonly Room[] } {
  const passed = new Set(kept.map((each) => each.passed));
  const left = [...rooms].flatMap(([name, room]) => (passed.has(name) ? [] : [room]));
  // Those that are part of a larger one last: it is wanted soon.
  left.sort((a, b) => a.array.buffer.byteLength - b.array.buffer.byteLength);
  const taken = (length: number): Room | undefined => {
    const index = left.findIndex(({ array }) => array.length === length);
    return index < 0 ? roomIn(spare, length) : left.splice(index, 1)[0];
  };
  const stores = new Map<string, Store>();
  for (const { name, passed: own, shape } of kept) {
    if (own !== undefined || !shape) continue;
    const room = taken(roomLength(sizes, shape));
    stores.set(name, storeOf(sizes, shape, room));
  }
  return { stores, left };
}

/** The rest of the way, behind the last stage: hidden states, batch by batch. */
export async function finishSlices(
  fed: Fed,
  stages: Cut['stages'],
  signal?: AbortSignal,
): Promise<readonly Tensor[]> {
  if (fed.at < stages.length) {
    const passage = await openPassage(fed, undefined, { stages, at: stages.length });
    for (const index of fed.feeds.keys()) {
      signal?.throwIfAborted();
      await passage.advance(index, { names: [] });
    }
    await passage.close();
  }
  return fed.feeds.map(({ hidden }) => hidden);
}
