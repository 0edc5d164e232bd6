/** Compresses one matrix, or the matrices of a block together, by their method, and measures the error. */

import { located } from '../base/errors.ts';
import { checkFiniteMatrix } from '../base/finite.ts';
import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import type { Tensor } from '../graph/session.ts';
import type { Block, Compressor, LinearMethod } from '../contract/method.ts';
import type { Matrix, Statistic } from '../contract/statistic.ts';
import type { Model } from '../models/model.ts';
import type { ErrorMeter } from './error.ts';
import { sampled } from './error.ts';
import { ownCopy, unitStatistic } from './statistics.ts';
import type { Fed } from './streams.ts';
import { collect } from './streams.ts';
import type { LayerRow, Planned, TrainingStep, WalkOptions } from './planned.ts';
import type { Assignment, Target } from './targets.ts';
import { replaceMatrix } from './targets.ts';

/** What the walk has of the model while it compresses. */
export interface Compressing {
  /** As it was at the start. */
  readonly model: Model;
  readonly options: Pick<WalkOptions, 'device' | 'threads' | 'progress' | 'signal' | 'seed'>;
  readonly plan: readonly Planned[];
  readonly meter: ErrorMeter;
  /** The model's, replaced one by one. */
  readonly matrices: Map<string, Encoding>;
  readonly vectors: Map<string, Stored>;
  /** Of the matrices that are done, by name. */
  readonly rows: Map<string, LayerRow>;
}

/** A method that fits a block's matrices together rounds those outside of blocks plainly. */
export function asLinear(method: Compressor): LinearMethod {
  if (method.shape === 'linear') return method;
  const { name, summary, options, plain } = method;
  return {
    shape: 'linear',
    name,
    summary,
    options,
    statistic: () => 'none',
    compress: (weight, _, choice) => plain(weight, choice),
    plain,
  };
}

/** For rewrites: what a planned matrix comes to by plain rounding. */
export const rounded =
  (planned: readonly (Target & Assignment)[]): Block['rounded'] =>
  async (name, weight) => {
    const target = planned.find((each) => each.name === name);
    return (await target?.method.plain?.(weight, target.options))?.dense();
  };

/** @param room as of `Stored.bytes`; free again when the matrix is done */
export async function compressMatrix(
  state: Compressing,
  planned: Planned,
  statistic: Statistic | undefined,
  room: Uint8Array,
): Promise<void> {
  const { name, options, known } = planned;
  const method = asLinear(planned.method);
  const before = begin(state, planned);
  if (method.convert) {
    // Of the same values: there is nothing to measure.
    const after = method.convert(before, options);
    return record(state, planned, after, { error: 0, errorOf: 'weights', seconds: 0 });
  }
  const weight = matrixOf(before, room);
  // The method may overwrite them.
  const original = sampled(weight, statistic ? 'outputs' : 'weights');
  const started = performance.now();
  const after = await named(name, () => compressed(method, weight, { options, known, statistic }));
  await finish(state, planned, { original, after, statistic, seconds: secondsSince(started) });
}

/** By what is known of its inputs already, or has been collected, or as if they were the unit vectors. */
async function compressed(
  method: LinearMethod,
  weight: Matrix,
  { options, known, statistic }: Pick<Planned, 'options' | 'known'> & { statistic: Statistic | undefined },
): Promise<Encoding> {
  if (known === 'nothing' && method.plain) return method.plain(weight, options);
  const own = known === 'nothing' ? undefined : (known ?? statistic);
  const given = own ? ownCopy(own) : unitStatistic(method.statistic(options), weight.columns);
  return method.compress(weight, given, options);
}

interface Training {
  readonly layer: number;
  readonly inputs: readonly Tensor[];
  readonly targets: readonly Tensor[];
  readonly importance: Float32Array | undefined;
  readonly statistics: ReadonlyMap<string, Statistic>;
}

export async function trainBlock(
  state: Compressing,
  planned: readonly Planned[],
  { importance, statistics, ...hidden }: Training,
): Promise<void> {
  const { matrices, options, rows, plan } = state;
  const { layer } = hidden;
  const stage = stageOf(state, hidden);
  const name = `block ${layer}`;
  for (const group of bySteps(planned)) {
    const [{ method, options: choice }] = group;
    if (method.shape !== 'train') continue;
    const started = performance.now();
    const names = group.map((each) => each.name);
    const before = new Map(names.map((name) => [name, sampledOf(matrices.get(name)!, name)]));
    const found = await method.train(
      {
        ...stage,
        names,
        importance,
        step: (done, total) =>
          options.progress?.({
            phase: 'compress',
            done: rows.size + (names.length * done) / total,
            total: plan.length,
            detail: `${name}, step ${done} of ${total}`,
          }),
      },
      choice,
    );
    const seconds = secondsSince(started) / names.length;
    for (const each of group) {
      const original = before.get(each.name)!;
      const after = found.get(each.name)!;
      await finish(state, each, { original, after, statistic: statistics.get(each.name), seconds });
    }
  }
}

interface Retraining extends Omit<Training, 'importance' | 'statistics'> {
  /** Matrices before they were compressed. */
  readonly before: ReadonlyMap<string, Encoding>;
  readonly metric: Float32Array | undefined;
  /** The block, and what it is fed. */
  readonly fed: Fed;
}

/** A block with its text as whoever trains it sees it; matrices are those that the walk has at any time. */
const stageOf = (
  { model, matrices, vectors, options }: Compressing,
  hidden: Pick<Training, 'layer' | 'inputs' | 'targets'>,
) => ({
  ...hidden,
  model: { ...model, matrices, vectors },
  seed: (options.seed ?? 0) + hidden.layer,
  session: { device: options.device, threads: options.threads },
  signal: options.signal,
});

/** Of the time that a block takes which is compressed and then trained, for progress. */
export const compressingShare = 0.1;

/** Trains what is compressed already, by each of the steps, and measures the errors of outputs again. */
export async function retrainBlock(
  state: Compressing,
  planned: readonly Planned[],
  steps: readonly TrainingStep[],
  { before, metric, fed, ...hidden }: Retraining,
): Promise<void> {
  const { matrices, vectors, options, rows, plan } = state;
  const { layer } = hidden;
  const stage = stageOf(state, hidden);
  const names = planned.map(({ name }) => name);
  const started = performance.now();
  const changed = new Set<string>();
  for (const { method, options: choice } of steps) {
    const block = {
      ...stage,
      before,
      names,
      metric,
      step: (done: number, total: number) =>
        options.progress?.({
          phase: 'compress',
          done: rows.size - names.length * (1 - compressingShare) * (1 - done / total),
          total: plan.length,
          detail: `${method.name}, block ${layer}, step ${done} of ${total}`,
        }),
    };
    const changes = await method.train(block, choice);
    for (const [name, after] of changes.matrices) {
      replaceMatrix(matrices, name, after);
      changed.add(name);
    }
    for (const [name, after] of changes.vectors) vectors.set(name, after);
    // Norms decide what matrices are fed.
    if (changes.vectors.size > 0) for (const name of names) changed.add(name);
  }
  const seconds = secondsSince(started) / names.length;
  const again = planned.filter(({ name }) => changed.has(name));
  const needs = new Map(again.map(({ name }) => [name, 'gram' as const]));
  const statistics = await collect(needs, fed, undefined, options);
  for (const each of again) {
    const original = sampledOf(before.get(each.name)!, each.name);
    const spent = rows.get(each.name)!.seconds + seconds;
    const result = { original, after: matrices.get(each.name)!, seconds: spent };
    await finish(state, each, { ...result, statistic: statistics.get(each.name) });
  }
}

/** Those of one step of a recipe share its options. */
function bySteps(planned: readonly Planned[]): readonly (readonly Planned[])[] {
  const groups = new Map<unknown, Planned[]>();
  for (const each of planned) groups.set(each.options, [...(groups.get(each.options) ?? []), each]);
  return [...groups.values()];
}

function sampledOf(encoding: Encoding, name: string): Float32Array {
  const weight = matrixOf(encoding);
  checkFiniteMatrix('weights', weight.plain ?? weight.values, weight.columns, `${name}.weight`);
  return sampled(weight, 'outputs');
}

/** Read once; values are computed when they are asked for, and whoever asks may write to them. */
function matrixOf(encoding: Encoding, room?: Uint8Array): Matrix {
  const [rows, columns] = encoding.shape;
  let plain = encoding.plain && stored(encoding.plain.dtype, [rows, columns], encoding.plain.bytes(room));
  let values: Float32Array | undefined;
  return {
    rows,
    columns,
    get values() {
      values ??= plain ? toFloat32(plain) : encoding.dense();
      plain = undefined;
      return values;
    },
    get plain() {
      return plain;
    },
  };
}

function begin({ options, rows, plan, matrices }: Compressing, { name }: Planned): Encoding {
  options.signal?.throwIfAborted();
  options.progress?.({ phase: 'compress', done: rows.size, total: plan.length, detail: name });
  return matrices.get(name)!;
}

interface Result {
  /** Rows of the weights as they were given to the method. */
  readonly original: Float32Array;
  readonly after: Encoding;
  readonly statistic: Statistic | undefined;
  readonly seconds: number;
}

async function finish(
  state: Compressing,
  planned: Planned,
  { original, after, statistic, seconds }: Result,
): Promise<void> {
  const error = await state.meter.relative(original, after, statistic);
  record(state, planned, after, { error, errorOf: statistic ? 'outputs' : 'weights', seconds });
}

function record(
  { model, matrices, rows, options, plan }: Compressing,
  { name, method }: Planned,
  after: Encoding,
  measured: Pick<LayerRow, 'error' | 'errorOf' | 'seconds'>,
): void {
  replaceMatrix(matrices, name, after);
  rows.set(name, {
    name,
    method: method.name,
    encoding: after.label,
    bytesBefore: encodedBytes(model.matrices.get(name)!),
    bytesAfter: encodedBytes(after),
    ...measured,
  });
  options.progress?.({ phase: 'compress', done: rows.size, total: plan.length, detail: name });
}

const secondsSince = (started: number): number => (performance.now() - started) / 1000;

/** Methods know a matrix, not its name. */
async function named<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw located(name, error);
  }
}
