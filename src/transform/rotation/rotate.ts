/**
 * Turns the residual stream of a model whose norms are folded, and the values of its attention heads, so that it computes
 * what it did (QuaRot, Ashkboos et al. 2024, arXiv:2404.00456, section 4, what is fused offline). With rows as outputs:
 *   tables E R, readers W R, writers R^T W, their biases b R; values H^T W by head, output projections W H by head.
 */

import { LapidaryError } from '../../base/errors.ts';
import { toFloat32 } from '../../base/half.ts';
import type { Progress } from '../../base/progress.ts';
import { stored } from '../../base/tensor.ts';
import { denseValues } from '../../encodings/dense.ts';
import type { Model } from '../../models/model.ts';
import type { Rotation, Turner } from './rotation.ts';

export interface Rotations {
  /** [hidden, hidden]; where norms subtract the mean, one that leaves the vector of ones as it is. */
  readonly stream: Rotation;
  /** Of every head's values in a layer, [headSize, headSize]. */
  heads(layer: number): Rotation | undefined;
}

interface Turn {
  readonly side: 'rows' | 'columns';
  readonly rotation: Rotation;
}

/**
 * @param folded see `fold`
 * @returns the same model with dense float32 matrices, those that nothing turns as they were
 */
export async function rotate(
  folded: Model,
  rotations: Rotations,
  {
    turner,
    progress,
    signal,
  }: {
    readonly turner: Turner;
    readonly progress?: Progress | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Model> {
  const turns = turnsOf(folded, rotations);
  const [matrices, vectors] = [new Map(folded.matrices), new Map(folded.vectors)];
  let done = 0;
  for (const [name, own] of turns) {
    signal?.throwIfAborted();
    const vector = folded.vectors.get(name);
    const matrix = folded.matrices.get(name);
    const values = vector ? toFloat32(vector).slice() : matrix!.dense();
    const [rows, columns] = matrix?.shape ?? [1, values.length];
    for (const { side, rotation } of own) {
      if (side === 'rows') await turner.rows(values, columns, rotation);
      else await turner.columns(values, rotation);
    }
    if (vector) vectors.set(name, stored('float32', vector.shape, values));
    else matrices.set(name, denseValues(checked(values, name), rows, columns));
    progress?.({ phase: 'rotate', done: ++done, total: turns.size, detail: name });
  }
  return { ...folded, matrices, vectors };
}

/** By what each matrix and vector is turned. */
function turnsOf({ architecture, config }: Model, rotations: Rotations): Map<string, Turn[]> {
  const turns = new Map<string, Turn[]>();
  const turn = (name: string | undefined, side: Turn['side'], rotation: Rotation) => {
    if (name) turns.set(name, [...(turns.get(name) ?? []), { side, rotation }]);
  };
  const { stream } = rotations;
  const outer = architecture.around(config);
  const layers = config.layers.map((_, layer) => architecture.structure(config, layer));
  for (const table of outer.tables) turn(table, 'columns', stream);
  for (const { bias, readers } of [...layers.flatMap(({ norms }) => norms), outer.norm, ...outer.exits]) {
    turn(bias, 'columns', stream);
    for (const { matrix } of readers) turn(matrix, 'columns', stream);
  }
  for (const [layer, { writers, passages }] of layers.entries()) {
    for (const { matrix, bias } of writers) {
      turn(matrix, 'rows', stream);
      turn(bias, 'columns', stream);
    }
    const heads = rotations.heads(layer);
    if (!heads) continue;
    for (const { from, bias, to } of passages.filter((passage) => passage.heads)) {
      turn(from, 'rows', heads);
      turn(bias, 'columns', heads);
      turn(to, 'columns', heads);
    }
  }
  return turns;
}

function checked(values: Float32Array, name: string): Float32Array {
  if (values.every(Number.isFinite)) return values;
  throw new LapidaryError({ what: 'the weights cannot be rotated: some are not finite', where: name });
}
