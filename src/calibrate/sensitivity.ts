/**
 * Which matrices suffer most from plain rounding: the relative squared error of a layer's outputs, with its inputs taken
 * as independent, sum over columns of |w - w'|^2 E[x^2] (the weighting of llama.cpp's importance matrices). For
 * recipes that give the most sensitive matrices more bits.
 */

import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { openRunner } from '../models/runner.ts';
import { asLinear } from './compress.ts';
import type { Ranking } from './select.ts';
import { collect, embedded, forward } from './streams.ts';
import type { Assignment, Target } from './targets.ts';
import { targetsOf } from './targets.ts';

export interface SensitivityOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** What would be done to a matrix. */
  readonly assign: (target: Target) => Assignment | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The matrices of the blocks that `assign` compresses, the most sensitive first.
 * @param sequences token ids, all of one length; without any, inputs are taken as equally large
 */
export async function rankBySensitivity(
  model: Model,
  sequences: readonly Int32Array[],
  { assign, signal, ...session }: SensitivityOptions,
): Promise<Ranking> {
  const squares = sequences.length > 0 ? await inputSquares(model, sequences, session, signal) : new Map();
  const errors: (readonly [name: string, error: number])[] = [];
  for (const target of targetsOf(model)) {
    const assigned = target.place === 'block' ? assign(target) : undefined;
    if (!assigned) continue;
    signal?.throwIfAborted();
    const [rows, columns] = target.shape;
    const weight = model.matrices.get(target.name)!;
    const method = asLinear(assigned.method);
    const plain = await method.plain?.({ rows, columns, values: weight.dense() }, assigned.options);
    if (!plain) continue;
    errors.push([
      target.name,
      relativeError(weight.dense(), plain.dense(), squares.get(target.name), columns),
    ]);
  }
  return errors.sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

/** Per column, of every linear layer of the blocks, in the model as it is. */
async function inputSquares(
  model: Model,
  sequences: readonly Int32Array[],
  session: Pick<SessionOptions, 'device' | 'threads'>,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, Float32Array>> {
  const runner = openRunner(model, { ...session, longest: sequences[0].length });
  const found = new Map<string, Float32Array>();
  try {
    const hidden = await embedded(runner, sequences, model, signal);
    for (let layer = 0; layer < model.config.layers.length; layer++) {
      const names = targetsOf(model).filter((target) => target.layer === layer);
      const needs = new Map(names.map(({ name }) => [name, 'norm' as const]));
      const open = (part: object) => runner.block(layer, part);
      for (const [name, { squares }] of await collect(needs, { open, hidden }, undefined, signal))
        found.set(name, squares!);
      await forward(await runner.block(layer), hidden, signal);
    }
    return found;
  } finally {
    await runner.release();
  }
}

function relativeError(
  before: Float32Array,
  after: Float32Array,
  squares: Float32Array | undefined,
  columns: number,
): number {
  let [error, whole] = [0, 0];
  for (let index = 0; index < before.length; index++) {
    const weight = squares?.[index % columns] ?? 1;
    error += weight * (before[index] - after[index]) ** 2;
    whole += weight * before[index] ** 2;
  }
  return whole > 0 ? error / whole : 0;
}
