/**
 * The one pass that compresses a model, block by block: hidden states in; rewrites make the block easier to compress;
 * the block runs over the hidden states to collect what the methods ask of every linear layer's input; its matrices are
 * compressed; the block runs again, compressed, to feed the next. So each layer is fitted to the inputs that it will
 * really see. In memory are one block, its statistics and the hidden states.
 */

import type { Progress } from '../base/progress.ts';
import type { Tensor } from '../graph/session.ts';
import type { Importance } from '../contract/gradients.ts';
import type { Changes } from '../contract/method.ts';
import type { Spare } from '../models/hidden.ts';
import { forward } from '../models/hidden.ts';
import type { Configuration, Model } from '../models/model.ts';
import type { PartOptions, Runner } from '../models/runner.ts';
import { openRunner } from '../models/runner.ts';
import { openErrorMeter } from './error.ts';
import { predictionGradients } from './importance.ts';
import type { Compressing } from './compress.ts';
import { compressingShare, compressMatrix, retrainBlock, rounded, trainBlock } from './compress.ts';
import type { LayerRow, Planned, WalkOptions } from './planned.ts';
import { askForMetrics, checkPlan, comparedShare, isInTurn, isTrained, planOf } from './planned.ts';
import { readUnit, writeUnit } from './resume.ts';
import type { TokenWeights } from './statistics.ts';
import type { Fed } from './streams.ts';
import { collect, fedBy, fewestTokens, finishSlices, firstOf, hiddenOf } from './streams.ts';
import { replaceMatrix } from './targets.ts';
import { steadyThreads } from './threads.ts';

export interface Walked {
  readonly model: Model;
  readonly layers: readonly LayerRow[];
  /** How many of them an earlier run had done. */
  readonly resumed: number;
}

/**
 * @param sequences token ids, all of one length; needed where a method asks for a statistic
 * @throws LapidaryError on weights or activations that are not finite, by name
 * @throws the signal's reason when it is aborted
 */
export async function walk(
  model: Model,
  sequences: readonly Int32Array[],
  options: WalkOptions,
): Promise<Walked> {
  const plan = planOf(model, options);
  checkPlan(plan, options, sequences);
  const threads = steadyThreads(model, fewestTokens(sequences), options.threads);
  // Training takes minutes a block: what other sessions ran in is given back before, and made again.
  const temporary = plan.some(isTrained) || (options.trainings ?? []).length > 0;
  const runner = openRunner(model, { ...options, threads, longest: sequences[0]?.length ?? 1, temporary });
  const meter = openErrorMeter(options);
  const [matrices, vectors] = [new Map(model.matrices), new Map(model.vectors)];
  try {
    return await run({ model, options, plan, runner, meter, matrices, vectors, rows: new Map() }, sequences);
  } finally {
    await meter.close();
    await runner.release();
  }
}

/** Batches on which errors of outputs are measured that training has left: all would cost another pass of the text. */
const reportedBatches = 4;

/** What is compressed, and kept in the journal, together. */
interface Unit {
  readonly name: string;
  readonly planned: readonly Planned[];
}

interface State extends Compressing {
  readonly options: WalkOptions;
  readonly runner: Runner;
}

/** Where the calibration text is: what the compressed model makes of it, and the original where somebody asks for that. */
interface Streams {
  readonly hidden: Tensor[];
  readonly original: Tensor[] | undefined;
  readonly importance: TokenWeights | undefined;
  /** Of each block, where a training asks for it: see `CompressedBlock.metric`. */
  readonly metrics?: readonly Float32Array[] | undefined;
  /** Room for what the next block's slices keep. */
  readonly spare: Spare;
}

async function run(state: State, sequences: readonly Int32Array[]): Promise<Walked> {
  const { model, options, plan, runner, matrices, vectors, rows } = state;
  const { signal } = options;
  const layers = model.config.layers.length;
  const units = unitsOf(model.config, plan);
  for (const unit of [units.tables, ...units.blocks, ...units.exits.values(), units.head])
    restoreUnit(state, unit);
  const resumed = rows.size;
  if (resumed > 0) {
    options.resumed?.(resumed / plan.length);
    options.progress?.({ phase: 'compress', done: resumed, total: plan.length });
  }
  await tables(state, units.tables, sequences);
  const weights = { matrices, vectors };
  const last = lastNeeded(state, layers);
  const streams = last < 0 ? nothing : await openStreams(state, sequences);
  const compressHead = (unit: Unit, exit?: number) => {
    const open = (weights: PartOptions['weights']) => (part: PartOptions) =>
      runner.head({ weights, exit, ...part });
    return part(state, unit, open(weights), { open: open(model), streams });
  };
  for (let layer = 0; layer < layers; layer++) {
    const done = await block(state, units.blocks[layer], { layer, goesOn: layer < last }, streams);
    if (layer < last) {
      if (!done.hidden) await forward(await runner.block(layer, { weights }), streams.hidden, signal);
      if (streams.original && !done.original)
        await forward(await runner.block(layer), streams.original, signal);
    }
    const exit = units.exits.get(layer);
    if (exit) await compressHead(exit, layer);
  }
  streams.spare.array = undefined;
  await compressHead(units.head);
  return { model: { ...model, matrices, vectors }, layers: plan.map(({ name }) => rows.get(name)!), resumed };
}

const nothing: Streams = { hidden: [], original: undefined, importance: undefined, spare: {} };

/** The layer that hidden states are fed to, the number of layers for the head: as far as somebody needs to see them. */
function lastNeeded({ plan, rows, options }: State, layers: number): number {
  const { rewrites = [], trainings = [] } = options;
  const inBlocks = rewrites.length + trainings.length > 0;
  const seen = plan.filter(
    (planned) =>
      (planned.statistic !== 'none' || isTrained(planned) || (inBlocks && planned.place === 'block')) &&
      planned.place !== 'embedding' &&
      !rows.has(planned.name),
  );
  const fed = ({ layer, exit }: Planned) => layer ?? (exit === undefined ? layers : exit + 1);
  return Math.max(-1, ...seen.map(fed));
}

async function openStreams(state: State, sequences: readonly Int32Array[]): Promise<Streams> {
  const { plan, model, runner, matrices, vectors, options, rows } = state;
  const trainings = plan.every(({ name, place }) => place !== 'block' || rows.has(name))
    ? []
    : (options.trainings ?? []);
  const compared = comparedShare(plan, trainings);
  const shares = fisherShares(state);
  const asked = {
    names: new Set(options.importance ? [] : shares.keys()),
    metrics: !options.metrics && askForMetrics(trainings),
  };
  const found =
    asked.names.size > 0 || asked.metrics
      ? await predictionGradients(model, sequences, asked, { ...options, seed: options.seed ?? 0 })
      : undefined;
  const embed = (weights: PartOptions['weights'], share = 1) =>
    hiddenOf(runner, firstOf(sequences, share), weights, options.signal);
  return {
    hidden: await embed({ matrices, vectors }),
    original: compared > 0 ? await embed(model, compared) : undefined,
    importance: shares.size > 0 ? weighed(shares, options.importance ?? found!.importance) : undefined,
    metrics: options.metrics ?? found?.metrics,
    spare: {},
  };
}

/** Of the layers, and the blocks that are trained, that weigh tokens and are still to be compressed: by how much. */
function fisherShares({ plan, rows, model }: State): ReadonlyMap<string, number> {
  const shares = new Map<string, number>();
  for (const planned of plan) {
    const { name, place, layer, method, options } = planned;
    const share = place === 'block' && !rows.has(name) ? (method.fisher?.(options) ?? 0) : 0;
    if (share > 0) shares.set(isTrained(planned) ? model.architecture.layerName(layer!) : name, share);
  }
  return shares;
}

const weighed = (shares: ReadonlyMap<string, number>, importance: Importance): TokenWeights =>
  new Map(
    [...shares].map(([name, share]) => {
      const { weights } = importance.get(name)!;
      return [name, weights.map((weight) => share * weight + (1 - share))];
    }),
  );

function unitsOf({ layers, exits = [] }: Configuration, plan: readonly Planned[]) {
  const unit = (name: string, belongs: (planned: Planned) => boolean): Unit => {
    return { name, planned: plan.filter(belongs) };
  };
  return {
    tables: unit('tables', ({ place }) => place === 'embedding' || place === 'positions'),
    blocks: layers.map((_, index) => unit(`block-${index}`, ({ layer }) => layer === index)),
    exits: new Map(exits.map((index) => [index, unit(`exit-${index}`, ({ exit }) => exit === index)])),
    head: unit('head', ({ place }) => place === 'head'),
  };
}

function restoreUnit(state: State, { name, planned }: Unit): void {
  const { options, matrices, rows } = state;
  if (!options.journal || planned.length === 0) return;
  const unit = readUnit(options.journal, name, planned);
  if (!unit) return;
  apply(state, unit.changes);
  for (const [index, { encoding, row }] of unit.done.entries()) {
    replaceMatrix(matrices, planned[index].name, encoding);
    rows.set(planned[index].name, row);
  }
}

function apply({ matrices, vectors }: Pick<State, 'matrices' | 'vectors'>, changes: Changes): void {
  for (const [name, encoding] of changes.matrices) matrices.set(name, encoding);
  for (const [name, vector] of changes.vectors) vectors.set(name, vector);
}

/**
 * Compresses what is looked up, before the blocks, so that these see it compressed. A tied embedding is fitted as the
 * head that it also is, to what the head is fed in the original model.
 */
async function tables(state: State, unit: Unit, sequences: readonly Int32Array[]): Promise<void> {
  const { model, runner, rows, options } = state;
  let hidden: Tensor[] = [];
  if (unit.planned.some(({ name, statistic }) => statistic !== 'none' && !rows.has(name))) {
    hidden = await hiddenOf(runner, sequences, model, options.signal);
    for (let layer = 0; layer < model.config.layers.length; layer++)
      await forward(await runner.block(layer), hidden, options.signal);
  }
  const open = (part: PartOptions) => runner.head(part);
  await part(state, unit, open, { open, streams: { ...nothing, hidden } });
}

/** Which streams are behind a block already when it is compressed. */
interface Through {
  readonly hidden?: boolean;
  readonly original?: boolean;
}

/** @param place of the block, and whether anything behind it is still to be compressed */
async function block(
  state: State,
  unit: Unit,
  { layer, goesOn }: { readonly layer: number; readonly goesOn: boolean },
  streams: Streams,
): Promise<Through> {
  const { runner, matrices, vectors, options, model } = state;
  if (unit.planned.every(({ name }) => state.rows.has(name))) return {};
  const before = { matrices: new Map(matrices), vectors: new Map(vectors) };
  const open = (weights: PartOptions['weights']) => (part: PartOptions) =>
    runner.block(layer, { weights, ...part });
  const compressed = open({ matrices, vectors });
  await rewriteBlock(state, unit, layer, fedBy(streams.hidden, { open: compressed }));
  // What it computes is the original's, but what its layers are fed may be scaled.
  const uncompressed = { matrices: new Map(matrices), vectors: new Map(vectors) };
  const trainings = options.trainings ?? [];
  const quick =
    trainings.length > 0 ? { ...state, options: { ...options, progress: beforeTraining(state) } } : state;
  const original = { open: open(uncompressed), streams };
  const trained = unit.planned.filter(isTrained);
  if (trained.length + trainings.length === 0) {
    const onward = await linears(quick, unit, compressed, original, false);
    await keep(state, unit, before);
    return goesOn ? onward() : {};
  }
  await linears(quick, unit, compressed, original, true);
  // What the original fed the block is of no use behind it.
  const ahead = streams.original!.splice(0);
  await forward(await open(model)({}), ahead, options.signal);
  const training = { layer, inputs: streams.hidden, targets: ahead };
  const fed = fedBy(streams.hidden.slice(0, reportedBatches), { open: compressed });
  if (trained.length > 0) {
    const needs = new Map(trained.map(({ name, statistic }) => [name, statistic]));
    const statistics = await collect(needs, fed, undefined, options);
    const importance = streams.importance?.get(model.architecture.layerName(layer));
    await trainBlock(state, trained, { ...training, importance, statistics });
  }
  if (trainings.length > 0) {
    const metric = streams.metrics?.[layer];
    await retrainBlock(state, unit.planned, trainings, {
      ...training,
      metric,
      before: uncompressed.matrices,
      fed,
    });
  }
  await keep(state, unit, before);
  streams.original!.push(...ahead);
  return { original: true };
}

/** Of a block that will be trained, compressing is the small part. */
function beforeTraining({ options, rows }: State): Progress | undefined {
  const from = rows.size;
  return (event) => options.progress?.({ ...event, done: from + compressingShare * (event.done - from) });
}

/** Collects what the rewrites ask for and applies them, one after the other. */
async function rewriteBlock(state: State, { planned }: Unit, layer: number, fed: Fed): Promise<void> {
  const { model, matrices, vectors, options } = state;
  const { signal } = options;
  for (const { method, options: choice } of options.rewrites ?? []) {
    const prefix = `${model.architecture.layerName(layer)}.`;
    const kind = method.statistic(choice);
    const names = [...matrices.keys()].filter((name) => name.startsWith(prefix));
    const statistics = await collect(new Map(names.map((name) => [name, kind])), fed, undefined, { signal });
    options.progress?.({
      phase: 'compress',
      done: state.rows.size,
      total: state.plan.length,
      detail: `${method.name}, block ${layer}`,
    });
    const changes = await method.rewrite(
      { model: { ...model, matrices, vectors }, layer, statistics, rounded: rounded(planned), signal },
      choice,
    );
    apply(state, changes);
  }
}

/** A part of the original model, with both streams. */
interface Original {
  readonly open: Fed['open'];
  readonly streams: Streams;
}

/** Collects what a part's layers need and compresses them, unless an earlier run did. */
async function part(state: State, unit: Unit, open: Fed['open'], original: Original): Promise<void> {
  if (unit.planned.every(({ name }) => state.rows.has(name))) return;
  await linears(state, unit, open, original, false);
  await keep(state, unit, state);
}

/**
 * Compresses each matrix of a part on its own.
 * @param again whether the part will be fed the same once more
 * @returns what takes the streams the rest of the way through the part, where they are inside it
 */
async function linears(
  state: State,
  { planned }: Unit,
  open: Fed['open'],
  { open: openOriginal, streams }: Original,
  again: boolean,
): Promise<() => Promise<Through>> {
  const { signal } = state.options;
  const { importance } = streams;
  const stages = stagesOf(
    state,
    planned.filter((each) => !isTrained(each)),
  );
  const cuts = stages.map((stage) => stage.map(({ name }) => name));
  const inSlices = stages.length > 1;
  const temporary = inSlices || streams.original !== undefined;
  // What a slice has replaced can go.
  const used = inSlices && !again;
  const taken = (hidden: Tensor[]) => (used ? hidden.splice(0) : hidden);
  const shared = { temporary, used, spare: used ? streams.spare : undefined };
  const ours = fedBy(taken(streams.hidden), { open, importance, ...shared });
  const original = streams.original && fedBy(taken(streams.original), { open: openOriginal, ...shared });
  // As they lie in their files, one matrix after the other.
  const plain = planned.map(({ name }) => state.matrices.get(name)!.plain?.byteLength ?? 0);
  const room = new Uint8Array(Math.max(0, ...plain));
  for (const [at, stage] of stages.entries()) {
    const needs = new Map(stage.map(({ name, statistic }) => [name, statistic]));
    const cut = inSlices ? { stages: cuts, at } : undefined;
    const statistics = await collect(needs, ours, original, { signal, cut });
    for (const each of stage) await compressMatrix(state, each, statistics.get(each.name), room);
  }
  return async () => {
    if (!inSlices) return {};
    streams.hidden.push(...(await finishSlices(ours, cuts, signal)));
    if (original) streams.original!.push(...(await finishSlices(original, cuts, signal)));
    return { hidden: true, original: true };
  };
}

/** What is compressed at once: all, or where a method wants it so, layers of one input after the other, as they run. */
function stagesOf({ runner }: State, planned: readonly Planned[]): readonly (readonly Planned[])[] {
  if (!planned.some(isInTurn)) return [planned];
  const own = new Map(planned.map((each) => [each.name, each]));
  return runner
    .linears(planned[0].layer!)
    .map((names) => names.flatMap((name) => own.get(name) ?? []))
    .filter(({ length }) => length > 0);
}

/** Into the journal: the unit's matrices, and what rewrites changed since `before` besides. */
async function keep(
  { options, matrices, vectors, rows }: State,
  { name: unit, planned }: Unit,
  before: Pick<State, 'matrices' | 'vectors'>,
): Promise<void> {
  if (!options.journal) return;
  const done = planned.map(({ name }) => ({ encoding: matrices.get(name)!, row: rows.get(name)! }));
  // Other names may share them.
  const own = new Set(done.map(({ encoding }) => encoding));
  const changes: Changes = {
    matrices: new Map(
      [...matrices].filter(([name, each]) => !own.has(each) && before.matrices.get(name) !== each),
    ),
    vectors: new Map([...vectors].filter(([name, each]) => before.vectors.get(name) !== each)),
  };
  await writeUnit(options.journal, unit, { done, changes });
}
