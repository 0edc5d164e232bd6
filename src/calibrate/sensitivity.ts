/**
 * Ranks matrices by how much plain rounding would raise the KL divergence, up to a factor and for each weight: the sum over columns of
 * |w - w'|^2 E[x^2 g^2], where g is the gradient of the predictions by an output (the diagonal of the Fisher information;
 * Dong et al. 2019, HAWQ, arXiv:1905.03696, take the trace of the Hessian). For recipes that give the most sensitive matrices
 * more bits.
 */

import type { SessionOptions } from '../graph/session.ts';
import { forward } from '../models/hidden.ts';
import type { Model } from '../models/model.ts';
import type { PartOptions } from '../models/runner.ts';
import { openRunner } from '../models/runner.ts';
import { asLinear } from './compress.ts';
import type { Importance } from '../contract/gradients.ts';
import type { Ranking } from './select.ts';
import { collect, fedBy, hiddenOf } from './streams.ts';
import type { Assignment, Target } from './targets.ts';
import { targetsOf } from './targets.ts';

export interface SensitivityOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** What would be done to a matrix. */
  readonly assign: (target: Target) => Assignment | undefined;
  /** Of all layers; needed where there are sequences. */
  readonly importance?: Importance | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The matrices of the blocks that `assign` compresses, the most sensitive first.
 * @param sequences token ids, all of one length; without any, the relative error of weights decides
 */
export async function rankBySensitivity(
  model: Model,
  sequences: readonly Int32Array[],
  { assign, importance, signal, ...session }: SensitivityOptions,
): Promise<Ranking> {
  const targets = targetsOf(model).filter(({ place }) => place === 'block');
  const squares =
    importance && sequences.length > 0
      ? await weighedSquares(model, sequences, { targets, importance, session, signal })
      : undefined;
  const costs: (readonly [name: string, cost: number])[] = [];
  for (const target of targets) {
    const assigned = assign(target);
    if (!assigned) continue;
    signal?.throwIfAborted();
    const [rows, columns] = target.shape;
    const values = model.matrices.get(target.name)!.dense();
    const method = asLinear(assigned.method);
    const plain = await method.plain?.({ rows, columns, values: values.slice() }, assigned.options);
    if (!plain) continue;
    const own = squares?.get(target.name);
    const error = squaredError(values, plain.dense(), own, columns);
    // An output's share of the gradient, for each weight; or the share of the weights that is lost.
    const whole = own
      ? rows * rows * columns
      : squaredError(values, new Float32Array(values.length), own, columns);
    costs.push([target.name, whole > 0 ? error / whole : 0]);
  }
  return costs.sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

interface Weighing {
  readonly targets: readonly Target[];
  readonly importance: Importance;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  readonly signal: AbortSignal | undefined;
}

/** Of each layer's inputs, times the squared gradients of its outputs: sums over tokens, per column. */
async function weighedSquares(
  model: Model,
  sequences: readonly Int32Array[],
  { targets, importance, session, signal }: Weighing,
): Promise<ReadonlyMap<string, Float32Array>> {
  const runner = openRunner(model, { ...session, longest: sequences[0].length });
  const weights = new Map([...importance].map(([name, each]) => [name, each.weights]));
  const found = new Map<string, Float32Array>();
  try {
    const hidden = await hiddenOf(runner, sequences, model, signal);
    for (const layer of model.config.layers.keys()) {
      const names = targets.filter((target) => target.layer === layer);
      const needs = new Map(names.map(({ name }) => [name, 'squares' as const]));
      const open = (part: PartOptions) => runner.block(layer, part);
      const fed = fedBy(hidden, { open, importance: weights });
      for (const [name, { squares }] of await collect(needs, fed, undefined, { signal }))
        found.set(
          name,
          squares!.map((square) => square * importance.get(name)!.mean),
        );
      await forward(await runner.block(layer), hidden, signal);
    }
    return found;
  } finally {
    await runner.release();
  }
}

function squaredError(
  before: Float32Array,
  after: Float32Array,
  squares: Float32Array | undefined,
  columns: number,
): number {
  let error = 0;
  for (let index = 0; index < before.length; index++)
    error += (squares?.[index % columns] ?? 1) * (before[index] - after[index]) ** 2;
  return error;
}
