/**
 * The model as a recipe will leave it, but for its values: each matrix in the encoding that it will have, grown from a few
 * rows of noise that are compressed as it will be. Its bytes are those of the result, and no weight is read.
 */

import { noiseOf } from '../calibrate/noise.ts';
import type { Assignment } from '../calibrate/targets.ts';
import { keptOf, replaceMatrix, targetsOf } from '../calibrate/targets.ts';
import type { Stored } from '../base/tensor.ts';
import { byteLength } from '../base/tensor.ts';
import { LapidaryError } from '../base/errors.ts';
import type { Encoding, EncodingAtRest } from '../encodings/encoding.ts';
import { restore } from '../encodings/restore.ts';
import type { Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { assignment } from '../run/assignment.ts';

export interface Outline {
  readonly model: Model;
  /** What is done to a matrix; those that are not here stay as they are. */
  readonly assigned: ReadonlyMap<string, Assignment>;
  /** Matrices whose bytes hang on their values: as those of noise have them. */
  readonly about: ReadonlySet<string>;
}

type Shape = readonly [rows: number, columns: number];

/**
 * @param held what the format stores in place of an encoding, where it has types of its own
 * @throws LapidaryError as `held` does
 */
export async function outlineOf(
  model: Model,
  recipe: Recipe,
  held: (encoding: Encoding) => Encoding = (encoding) => encoding,
): Promise<Outline> {
  const assign = assignment(recipe, model);
  const matrices = new Map(model.matrices);
  const assigned = new Map<string, Assignment>();
  const about = new Set<string>();
  const known = new Map<string, Promise<Grown>>();
  for (const { name, shape, ...target } of targetsOf(model)) {
    const own = assign({ name, shape, ...target });
    const before = model.matrices.get(name)!;
    const kept = own ? keptOf(own, before) : before;
    if (own) assigned.set(name, own);
    if (kept) {
      replaceMatrix(matrices, name, held(kept));
      continue;
    }
    const key = JSON.stringify([own!.method.name, own!.options, shape]);
    const grown = known.get(key) ?? grownTo(shape, async (size) => held(await noiseOf(own!, size)));
    known.set(key, grown);
    const { encoding, exact } = await grown;
    // One object for two matrices would be a shared one.
    replaceMatrix(matrices, name, { ...encoding });
    if (!exact) about.add(name);
  }
  return { model: { ...model, matrices }, assigned, about };
}

interface Grown {
  readonly encoding: Encoding;
  readonly exact: boolean;
}

/** Wide ones grow as narrow ones of the same remainder do: no encoding looks further along a row than this. */
const step = { rows: 16, columns: 256 };

/** Every size of every tensor is a + b rows + c columns + d rows columns, by four samples of it. */
export async function grownTo(shape: Shape, sample: (size: Shape) => Promise<Encoding>): Promise<Grown> {
  const [rows, columns] = shape;
  const narrow = columns > 3 * step.columns ? step.columns + (columns % step.columns) : columns;
  const widths = narrow === columns ? [columns] : [narrow, narrow + step.columns];
  const samples: Encoding[] = [];
  for (const width of widths)
    for (const height of [step.rows, 2 * step.rows]) samples.push(await sample([height, width]));
  const [down, along] = [(rows - step.rows) / step.rows, (columns - narrow) / step.columns];
  const grow = (read: (encoding: Encoding) => number): number => {
    const [base, tall, wide = base, both = tall] = samples.map(read) as [number, number, number?, number?];
    return base + down * (tall - base) + along * (wide - base) + down * along * (both - tall - wide + base);
  };
  const first = samples[0]!;
  const tensors = new Map(
    [...first.tensors].map(([suffix, { dtype, shape: sizes }]): [string, Stored] => {
      const grown = sizes.map((_, at) =>
        Math.round(grow((encoding) => encoding.tensors.get(suffix)?.shape[at] ?? 0)),
      );
      return [suffix, ofZeros(dtype, grown)];
    }),
  );
  const atRest: EncodingAtRest = { description: first.description, shape, tensors };
  try {
    return { encoding: restore(atRest), exact: true };
  } catch (error) {
    if (!(error instanceof LapidaryError)) throw error;
    return { encoding: { ...first, ...atRest }, exact: false };
  }
}

function ofZeros(dtype: Stored['dtype'], shape: readonly number[]): Stored {
  const length = byteLength(dtype, shape);
  return { dtype, shape, byteLength: length, bytes: () => new Uint8Array(length) };
}
