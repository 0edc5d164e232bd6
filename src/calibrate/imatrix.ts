/**
 * Collects what an importance matrix of llama.cpp holds: the sums of squared inputs of every linear layer, in the model as it
 * is. One run of each block gives both its layers' sums and the next block's inputs.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Imatrix, ImatrixEntry } from '../io/imatrix/imatrix.ts';
import type { Statistic } from '../contract/statistic.ts';
import type { GgufFamily } from '../models/gguf-names.ts';
import { ggufFamilies } from '../models/gguf-names.ts';
import type { Spare } from '../models/hidden.ts';
import type { Model } from '../models/model.ts';
import type { PartOptions, Runner } from '../models/runner.ts';
import { openRunner } from '../models/runner.ts';
import { collect, fedBy, fewestTokens, hiddenOf } from './streams.ts';
import { targetsOf } from './targets.ts';
import { steadyThreads } from './threads.ts';

export interface CollectOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** Collects for the head, too: of a tied one under the embedding's name. */
  readonly head?: boolean | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of hidden states at once: longer texts go through the blocks in several turns. */
const mostHidden = 2 ** 29;

/**
 * By the weight's name in GGUF; counts are of tokens.
 * @param sequences token ids, all of one length
 * @throws LapidaryError where llama.cpp has no names for the model, or it computes what is not finite
 */
export async function collectImatrix(
  model: Model,
  sequences: readonly Int32Array[],
  { head = false, progress, signal, ...session }: CollectOptions = {},
): Promise<ReadonlyMap<string, ImatrixEntry>> {
  familyOf(model);
  const threads = steadyThreads(model, fewestTokens(sequences), session.threads);
  const runner = openRunner(model, { ...session, threads, longest: sequences[0].length });
  const sums = new Map<string, Float64Array>();
  const turns = turnsOf(sequences, model.config.hidden);
  const total = turns.length * model.config.layers.length;
  let done = 0;
  const step = () => progress?.({ phase: 'collect', done: done++, total });
  try {
    for (const turn of turns)
      for await (const [name, { squares }] of collectedOf(runner, turn, { head, step, signal })) {
        const own = sums.get(name) ?? new Float64Array(squares!.length);
        for (let column = 0; column < own.length; column++) own[column] += squares![column];
        sums.set(name, own);
      }
  } finally {
    await runner.release();
  }
  progress?.({ phase: 'collect', done: total, total });
  const tokens = sequences.length * sequences[0].length;
  return new Map(
    [...sums].map(([name, own]) => [
      namedInGguf(model, name),
      { sums: Float32Array.from(own), counts: Float32Array.of(tokens) },
    ]),
  );
}

function turnsOf(sequences: readonly Int32Array[], hidden: number): readonly (readonly Int32Array[])[] {
  const most = Math.max(1, Math.floor(mostHidden / (4 * hidden * sequences[0].length)));
  return Array.from({ length: Math.ceil(sequences.length / most) }, (_, turn) =>
    sequences.slice(turn * most, (turn + 1) * most),
  );
}

async function* collectedOf(
  runner: Runner,
  sequences: readonly Int32Array[],
  { head, step, signal }: { head: boolean; step: () => void; signal: AbortSignal | undefined },
): AsyncGenerator<readonly [name: string, statistic: Statistic]> {
  const { model } = runner;
  const spare: Spare = {};
  let hidden = await hiddenOf(runner, sequences, model, signal);
  for (const layer of model.config.layers.keys()) {
    step();
    const needs = new Map(
      runner.linears(layer).flatMap((names) => names.map((name) => [name, 'squares'] as const)),
    );
    const open = (part: PartOptions) => runner.block(layer, part);
    const fed = fedBy(hidden, { open, used: true, spare });
    // From the block's input to its end: one slice.
    yield* await collect(needs, fed, undefined, { signal, cut: { stages: [], at: 0 } });
    hidden = fed.feeds.map((feeds) => feeds.hidden);
  }
  if (!head) return;
  const heads = targetsOf(model).filter(
    ({ place }) => place === (model.config.tiedHead ? 'embedding' : 'head'),
  );
  const needs = new Map(heads.map(({ name }) => [name, 'squares' as const]));
  const open = (part: PartOptions) => runner.head(part);
  yield* await collect(needs, fedBy(hidden, { open }), undefined, { signal });
}

/** A matrix's name in GGUF: "blk.0.attn_q.weight". @throws LapidaryError where llama.cpp has none for the model */
export const namedInGguf = (model: Model, ours: string): string => `${familyOf(model).theirs(ours)}.weight`;

function familyOf({ config, source }: Model): GgufFamily {
  const family = ggufFamilies.find(({ modelType }) => modelType === config.modelType);
  if (family?.experts)
    throw new LapidaryError({
      what: 'importance matrices of mixtures of experts are not made here yet',
      where: source,
      fix: 'calibrate with text: every expert sees the tokens that are sent to it',
    });
  if (family) return family;
  throw new LapidaryError({
    what: 'llama.cpp has no names for the weights of this architecture here',
    where: source,
    expected: ggufFamilies.map(({ modelType }) => modelType).join(', '),
    found: config.modelType,
  });
}

/**
 * What an importance matrix says of a model's matrices, by our names. Weights that no token came to, or that the model does
 * not have, are left out.
 * @param path of its file, for errors
 * @throws LapidaryError where it is of another model, or of experts
 */
export function squaresOf(
  { entries }: Pick<Imatrix, 'entries'>,
  model: Model,
  path: string,
): ReadonlyMap<string, Statistic> {
  const found = new Map<string, Statistic>();
  for (const { name, shape } of targetsOf(model)) {
    const weight = namedInGguf(model, name);
    const entry = entries.get(weight);
    if (!entry) continue;
    const { sums, counts } = entry;
    if (sums.length !== shape[1] || counts.length !== 1) throw wrongShape(path, weight, entry, shape[1]);
    if (counts[0] > 0) found.set(name, { tokens: counts[0], squares: sums });
  }
  if (found.size > 0) return found;
  throw new LapidaryError({
    what: 'the importance matrix says nothing of any weight of this model',
    where: path,
    expected: `weights like ${namedInGguf(model, targetsOf(model).findLast(({ place }) => place !== 'exit')!.name)}`,
    found: [...entries.keys()].slice(0, 3).join(', '),
    fix: 'give the one that was made from this model: lapidary imatrix MODEL --data text.txt',
  });
}

function wrongShape(path: string, weight: string, { sums, counts }: ImatrixEntry, columns: number) {
  const experts = counts.length > 1 ? `, of ${counts.length} experts` : '';
  return new LapidaryError({
    what: `the importance of "${weight}" is of another model`,
    where: path,
    expected: `${columns} columns`,
    found: `${sums.length / counts.length}${experts}`,
    fix: 'give the one that was made from this model: lapidary imatrix MODEL --data text.txt',
  });
}
