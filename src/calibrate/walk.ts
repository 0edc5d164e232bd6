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
import type { LinearMethod, Statistic, StatisticKind } from '../methods/contract.ts';
import type { Model } from '../models/model.ts';
import type { PartOptions, Runner, Stage } from '../models/runner.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import { linearLayers } from '../models/size.ts';
import type { ErrorMeter } from './error.ts';
import { openErrorMeter } from './error.ts';
import type { Needs } from './statistics.ts';
import { moreOf, openCollector } from './statistics.ts';

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
  /** Of the method alone. */
  readonly seconds: number;
}

export interface Walked {
  readonly model: Model;
  readonly layers: readonly LayerRow[];
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
  const runner = openRunner(model, { ...options, longest: sequences[0]?.length ?? 1 });
  const meter = openErrorMeter(options);
  try {
    return await run(
      { model, options, plan, runner, meter, matrices: new Map(model.matrices), layers: [] },
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

interface State {
  readonly model: Model;
  readonly options: WalkOptions;
  readonly plan: readonly Planned[];
  readonly runner: Runner;
  readonly meter: ErrorMeter;
  /** The model's, replaced one by one. */
  readonly matrices: Map<string, Encoding>;
  readonly layers: LayerRow[];
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
  const linears = new Map(linearLayers(model).map(({ name, layer }) => [name, layer]));
  const tables: Target[] = [];
  for (const [name, { shape }] of model.matrices) {
    if (linears.get(name) !== undefined) continue;
    if (linears.has(name) && !model.config.tiedHead) continue;
    tables.push({ name, place: shape[0] === model.config.vocabulary ? 'embedding' : 'positions', shape });
  }
  const products = [...linears].flatMap(([name, layer]): Target[] => {
    const { shape } = model.matrices.get(name)!;
    if (layer !== undefined) return [{ name, place: 'block', layer, shape }];
    return model.config.tiedHead ? [] : [{ name, place: 'head', shape }];
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
  const { model, plan, runner, matrices, layers } = state;
  const { config } = model;
  await tables(state, sequences);
  const weights = { matrices, vectors: model.vectors };
  // Hidden states go as far as somebody needs to see them.
  const seen = plan.filter(({ place, statistic }) => statistic !== 'none' && place !== 'embedding');
  const last = Math.max(-1, ...seen.map(({ layer }) => layer ?? config.layers.length));
  let hidden = last < 0 ? [] : await embed(state, sequences, weights);
  for (let layer = 0; layer < config.layers.length; layer++) {
    const planned = plan.filter((each) => each.layer === layer);
    await part(state, planned, hidden, (options) => runner.block(layer, { weights, ...options }));
    if (layer < last) hidden = await forward(state, await runner.block(layer, { weights }), hidden);
  }
  const heads = plan.filter(({ place }) => place === 'head');
  await part(state, heads, hidden, (options) => runner.head({ weights, ...options }));
  return { model: { ...model, matrices }, layers };
}

/**
 * Compresses what is looked up, before the blocks, so that these see it compressed. A tied embedding is fitted as the
 * head that it also is, to what the head is fed in the original model.
 */
async function tables(state: State, sequences: readonly Int32Array[]): Promise<void> {
  const { model, plan, runner } = state;
  const planned = plan.filter(({ place }) => place === 'embedding' || place === 'positions');
  let hidden: Tensor[] = [];
  if (planned.some(({ statistic }) => statistic !== 'none')) {
    hidden = await embed(state, sequences, model);
    for (let layer = 0; layer < model.config.layers.length; layer++) {
      hidden = await forward(state, await runner.block(layer), hidden);
    }
  }
  await part(state, planned, hidden, (options) => runner.head(options));
}

async function embed(
  { runner, model, options }: State,
  sequences: readonly Int32Array[],
  weights: PartOptions['weights'],
): Promise<Tensor[]> {
  const rows = Math.max(1, Math.floor(batchTokens / sequences[0].length));
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

/** Collects what a part's layers need and compresses them. */
async function part(
  state: State,
  planned: readonly Planned[],
  hidden: readonly Tensor[],
  open: (options: PartOptions) => Promise<Stage>,
): Promise<void> {
  const needs: Needs = new Map(planned.map(({ name, statistic }) => [name, statistic]));
  const statistics = planned.some(({ statistic }) => statistic !== 'none')
    ? await collect(state, needs, hidden, open)
    : undefined;
  for (const each of planned) await compress(state, each, statistics?.get(each.name));
}

async function collect(
  { options }: State,
  needs: Needs,
  hidden: readonly Tensor[],
  open: (options: PartOptions) => Promise<Stage>,
): Promise<ReadonlyMap<string, Statistic>> {
  const collector = openCollector(needs);
  const stage = await open({ extend: collector.extend });
  for (const x of hidden) {
    options.signal?.throwIfAborted();
    const [rows, time] = x.dims;
    collector.take(await stage.run({ x, ...collector.feeds() }, collector.outputs), rows * time);
  }
  await stage.release();
  return collector.statistics();
}

async function compress(state: State, planned: Planned, statistic: Statistic | undefined): Promise<void> {
  const { matrices, layers, meter, options, plan } = state;
  const { name, method } = planned;
  options.signal?.throwIfAborted();
  options.progress?.({ phase: 'compress', done: layers.length, total: plan.length, detail: name });
  const before = matrices.get(name)!;
  const [rows, columns] = before.shape;
  const values = before.dense();
  checkFiniteMatrix('weights', values, columns, `${name}.weight`);
  const started = performance.now();
  const own = statistic ? ownCopy(statistic) : unitStatistic(method.statistic(planned.options), columns);
  const after = await named(name, () => method.compress({ rows, columns, values }, own, planned.options));
  const seconds = (performance.now() - started) / 1000;
  matrices.set(name, after);
  layers.push({
    name,
    method: method.name,
    encoding: after.label,
    error: await meter.relative(before, after, statistic),
    errorOf: statistic ? 'outputs' : 'weights',
    bytesBefore: encodedBytes(before),
    bytesAfter: encodedBytes(after),
    seconds,
  });
  options.progress?.({ phase: 'compress', done: layers.length, total: plan.length, detail: name });
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

/** Of a table whose rows are outputs as they are, whichever is looked up: as if the inputs were the unit vectors. */
function unitStatistic(kind: StatisticKind, columns: number): Statistic {
  if (kind === 'none') return { tokens: 0 };
  const squares = new Float32Array(columns).fill(1);
  if (kind === 'norm') return { tokens: columns, squares };
  const gram = new Float32Array(columns * columns);
  for (let index = 0; index < columns; index++) gram[index * columns + index] = 1;
  return { tokens: columns, squares, gram };
}
