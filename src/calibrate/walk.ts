/**
 * The one pass that compresses a model, block by block: hidden states in; the block runs over them once to collect
 * what the methods ask of every linear layer's input; the layers are compressed; the block runs again, compressed, to
 * feed the next. So each layer is fitted to the inputs that it will really see. In memory are one block, its
 * statistics and the hidden states.
 */

import { LapidaryError, located } from '../base/errors.ts';
import { checkFiniteMatrix } from '../base/finite.ts';
import type { Progress } from '../base/progress.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import type { Journal } from '../io/journal.ts';
import type { LinearMethod, Statistic, StatisticKind } from '../methods/contract.ts';
import type { Model } from '../models/model.ts';
import type { PartOptions, Runner, Stage } from '../models/runner.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import { linearLayers, tables as tablesOf } from '../models/size.ts';
import type { ErrorMeter } from './error.ts';
import { openErrorMeter, sampled } from './error.ts';
import { readUnit, writeUnit } from './resume.ts';
import type { Needs } from './statistics.ts';
import { moreOf, openCollector, unitStatistic } from './statistics.ts';
import { steadyThreads } from './threads.ts';

/** Where a matrix stands. A tied head is its embedding; "positions" are learned ones. */
export type Place = 'block' | 'embedding' | 'positions' | 'head';

export interface Target {
  /** Of the matrix: "model.layers.0.self_attn.q_proj". */
  readonly name: string;
  readonly place: Place;
  /** Of a block's matrix. */
  readonly layer?: number | undefined;
  readonly shape: readonly [rows: number, columns: number];
}

export interface Assignment {
  readonly method: LinearMethod;
  /** Checked by the method's schema. */
  readonly options: unknown;
}

export interface WalkOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** What is done to a matrix; undefined leaves it as it is. */
  readonly assign: (target: Target) => Assignment | undefined;
  /** Collects at least this, so that errors are those of outputs where the method itself needs no data. */
  readonly collect?: StatisticKind | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Takes every part that is finished, and gives those that an earlier run has. */
  readonly journal?: Journal | undefined;
}

/** A compressed matrix's row in the report. */
export interface LayerRow {
  readonly name: string;
  readonly method: string;
  /** The new encoding, for people. */
  readonly encoding: string;
  /** Relative squared error: of the outputs where inputs were seen ("outputs"), else of the weights. */
  readonly error: number;
  readonly errorOf: 'outputs' | 'weights';
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** Of the method alone, in the run that did it. */
  readonly seconds: number;
}

export interface Walked {
  readonly model: Model;
  readonly layers: readonly LayerRow[];
  /** How many of them an earlier run had done. */
  readonly resumed: number;
}

/** Tokens of one run. */
const batchTokens = 2048;

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
  checkPlan(plan, sequences);
  const threads = steadyThreads(model, fewestTokens(sequences), options.threads);
  const runner = openRunner(model, { ...options, threads, longest: sequences[0]?.length ?? 1 });
  const meter = openErrorMeter(options);
  try {
    return await run(
      { model, options, plan, runner, meter, matrices: new Map(model.matrices), rows: new Map() },
      sequences,
    );
  } finally {
    await meter.close();
    await runner.release();
  }
}

interface Planned extends Target, Assignment {
  readonly statistic: StatisticKind;
}

/** What is compressed, and kept in the journal, together. */
interface Unit {
  readonly name: string;
  readonly planned: readonly Planned[];
}

interface State {
  readonly model: Model;
  readonly options: WalkOptions;
  readonly plan: readonly Planned[];
  readonly runner: Runner;
  readonly meter: ErrorMeter;
  /** The model's, replaced one by one. */
  readonly matrices: Map<string, Encoding>;
  /** Of the matrices that are done, by name. */
  readonly rows: Map<string, LayerRow>;
}

function planOf(model: Model, { assign, collect = 'none' }: WalkOptions): Planned[] {
  return targetsOf(model).flatMap((target) => {
    const assignment = assign(target);
    if (!assignment) return [];
    const own = assignment.method.statistic(assignment.options);
    return [{ ...target, ...assignment, statistic: collected(model, target, own, collect) }];
  });
}

/** What is worth collecting for a matrix: tables that are only looked up multiply nothing. */
function collected(model: Model, { place }: Target, own: StatisticKind, least: StatisticKind): StatisticKind {
  if (place === 'block' || place === 'head') return moreOf(own, least);
  return place === 'embedding' && model.config.tiedHead ? own : 'none';
}

/** Every matrix of a model: tables first, then the layers in the order they run. */
export function targetsOf(model: Model): readonly Target[] {
  const lookedUp = tablesOf(model);
  const tables = [...model.matrices].flatMap(([name, { shape }]): Target[] => {
    const by = lookedUp.get(name);
    return by === undefined ? [] : [{ name, place: by === 'tokens' ? 'embedding' : 'positions', shape }];
  });
  const products = linearLayers(model).flatMap(({ name, layer, encoding: { shape } }): Target[] => {
    if (layer !== undefined) return [{ name, place: 'block', layer, shape }];
    return lookedUp.has(name) ? [] : [{ name, place: 'head', shape }];
  });
  return [...tables, ...products];
}

function checkPlan(plan: readonly Planned[], sequences: readonly Int32Array[]): void {
  for (const { name, method, statistic } of plan) {
    if (statistic === 'none') continue;
    if (sequences.length === 0) {
      throw new LapidaryError({
        what: `the method ${method.name} needs calibration text`,
        where: name,
        fix: 'give calibration text, or a method that needs none',
      });
    }
  }
  const length = sequences[0]?.length;
  if (sequences.some((sequence) => sequence.length !== length)) {
    throw new RangeError('calibration sequences must be of one length');
  }
}

async function run(state: State, sequences: readonly Int32Array[]): Promise<Walked> {
  const { model, options, plan, runner, matrices, rows } = state;
  const { config } = model;
  const units = unitsOf(config.layers.length, plan);
  for (const unit of [units.tables, ...units.blocks, units.head]) restoreUnit(state, unit);
  const resumed = rows.size;
  if (resumed > 0) options.progress?.({ phase: 'compress', done: resumed, total: plan.length });
  await tables(state, units.tables, sequences);
  const weights = { matrices, vectors: model.vectors };
  // Hidden states go as far as somebody needs to see them, through blocks that are restored too.
  const seen = plan.filter(
    ({ name, place, statistic }) => statistic !== 'none' && place !== 'embedding' && !rows.has(name),
  );
  const last = Math.max(-1, ...seen.map(({ layer }) => layer ?? config.layers.length));
  let hidden = last < 0 ? [] : await embed(state, sequences, weights);
  for (let layer = 0; layer < config.layers.length; layer++) {
    await part(state, units.blocks[layer], hidden, (options) => runner.block(layer, { weights, ...options }));
    if (layer < last) hidden = await forward(state, await runner.block(layer, { weights }), hidden);
  }
  await part(state, units.head, hidden, (options) => runner.head({ weights, ...options }));
  return { model: { ...model, matrices }, layers: plan.map(({ name }) => rows.get(name)!), resumed };
}

function unitsOf(layers: number, plan: readonly Planned[]) {
  const unit = (name: string, belongs: (planned: Planned) => boolean): Unit => {
    return { name, planned: plan.filter(belongs) };
  };
  return {
    tables: unit('tables', ({ place }) => place === 'embedding' || place === 'positions'),
    blocks: Array.from({ length: layers }, (_, index) =>
      unit(`block-${index}`, ({ layer }) => layer === index),
    ),
    head: unit('head', ({ place }) => place === 'head'),
  };
}

function restoreUnit({ options, matrices, rows }: State, { name, planned }: Unit): void {
  if (!options.journal || planned.length === 0) return;
  for (const [index, { encoding, row }] of (readUnit(options.journal, name, planned) ?? []).entries()) {
    matrices.set(planned[index].name, encoding);
    rows.set(planned[index].name, row);
  }
}

/**
 * Compresses what is looked up, before the blocks, so that these see it compressed. A tied embedding is fitted as the
 * head that it also is, to what the head is fed in the original model.
 */
async function tables(state: State, unit: Unit, sequences: readonly Int32Array[]): Promise<void> {
  const { model, runner, rows } = state;
  let hidden: Tensor[] = [];
  if (unit.planned.some(({ name, statistic }) => statistic !== 'none' && !rows.has(name))) {
    hidden = await embed(state, sequences, model);
    for (let layer = 0; layer < model.config.layers.length; layer++) {
      hidden = await forward(state, await runner.block(layer), hidden);
    }
  }
  await part(state, unit, hidden, (options) => runner.head(options));
}

/** Sequences of one run. */
const rowsOf = ([{ length }]: readonly Int32Array[]) => Math.max(1, Math.floor(batchTokens / length));

function fewestTokens(sequences: readonly Int32Array[]): number {
  if (sequences.length === 0) return Number.POSITIVE_INFINITY;
  const rows = rowsOf(sequences);
  return (sequences.length % rows || rows) * sequences[0].length;
}

async function embed(
  { runner, model, options }: State,
  sequences: readonly Int32Array[],
  weights: PartOptions['weights'],
): Promise<Tensor[]> {
  const rows = rowsOf(sequences);
  const stage = await runner.embed({ weights });
  const hidden: Tensor[] = [];
  for (let start = 0; start < sequences.length; start += rows) {
    options.signal?.throwIfAborted();
    const ids = idsTensor(sequences.slice(start, start + rows), model.config.vocabulary);
    hidden.push((await stage.run({ ids })).hidden);
  }
  await stage.release();
  return hidden;
}

/** Each batch is replaced when its next hidden states are there. */
async function forward({ options }: State, stage: Stage, hidden: Tensor[]): Promise<Tensor[]> {
  for (const [index, x] of hidden.entries()) {
    options.signal?.throwIfAborted();
    hidden[index] = (await stage.run({ x }, ['hidden'])).hidden;
  }
  await stage.release();
  return hidden;
}

/** Collects what a part's layers need and compresses them, unless an earlier run did. */
async function part(
  state: State,
  { name: unit, planned }: Unit,
  hidden: readonly Tensor[],
  open: (options: PartOptions) => Promise<Stage>,
): Promise<void> {
  const { options, matrices, rows } = state;
  if (planned.every(({ name }) => rows.has(name))) return;
  const needs: Needs = new Map(planned.map(({ name, statistic }) => [name, statistic]));
  const statistics = planned.some(({ statistic }) => statistic !== 'none')
    ? await collect(state, needs, hidden, open)
    : undefined;
  for (const each of planned) await compress(state, each, statistics?.get(each.name));
  if (!options.journal) return;
  const done = planned.map(({ name }) => ({ encoding: matrices.get(name)!, row: rows.get(name)! }));
  await writeUnit(options.journal, unit, done);
}

async function collect(
  { options }: State,
  needs: Needs,
  hidden: readonly Tensor[],
  open: (options: PartOptions) => Promise<Stage>,
): Promise<ReadonlyMap<string, Statistic>> {
  const collector = openCollector(needs);
  // A head's logits would be the largest thing of all.
  const stage = await open({ extend: collector.extend, extensionOnly: true });
  for (const x of hidden) {
    options.signal?.throwIfAborted();
    const [rows, time] = x.dims;
    collector.take(await stage.run({ x, ...collector.feeds() }, collector.outputs), rows * time);
  }
  await stage.release();
  return collector.statistics();
}

async function compress(state: State, planned: Planned, statistic: Statistic | undefined): Promise<void> {
  const { matrices, rows: done, meter, options, plan } = state;
  const { name, method } = planned;
  options.signal?.throwIfAborted();
  options.progress?.({ phase: 'compress', done: done.size, total: plan.length, detail: name });
  const before = matrices.get(name)!;
  const [rows, columns] = before.shape;
  const values = before.dense();
  checkFiniteMatrix('weights', values, columns, `${name}.weight`);
  // The method may overwrite them, and large ones are not made dense twice.
  const original = sampled(values, columns);
  const started = performance.now();
  const own = statistic ? ownCopy(statistic) : unitStatistic(method.statistic(planned.options), columns);
  const after = await named(name, () => method.compress({ rows, columns, values }, own, planned.options));
  const seconds = (performance.now() - started) / 1000;
  matrices.set(name, after);
  done.set(name, {
    name,
    method: method.name,
    encoding: after.label,
    error: await meter.relative(original, after, statistic),
    errorOf: statistic ? 'outputs' : 'weights',
    bytesBefore: encodedBytes(before),
    bytesAfter: encodedBytes(after),
    seconds,
  });
  options.progress?.({ phase: 'compress', done: done.size, total: plan.length, detail: name });
}

/** Methods know a matrix, not its name. */
async function named<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw located(name, error);
  }
}

/** Methods may overwrite what they get. */
function ownCopy({ tokens, squares, gram }: Statistic): Statistic {
  return { tokens, squares: squares?.slice(), gram: gram?.slice() };
}
