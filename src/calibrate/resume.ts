/**
 * What the walk writes to the journal when a part is finished: the compressed matrices as they are stored, their rows of the
 * report, and what rewrites changed.
 */

import { LapidaryError } from '../base/errors.ts';
import { isObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import type { Encoding, EncodingAtRest } from '../encodings/encoding.ts';
import { restore } from '../encodings/restore.ts';
import type { Journal } from '../io/journal.ts';
import type { Changes } from '../contract/method.ts';
import type { Target } from './targets.ts';
import type { LayerRow } from './planned.ts';

/** A matrix that is compressed. */
export interface Done {
  readonly encoding: Encoding;
  readonly row: LayerRow;
}

export interface Unit {
  readonly done: readonly Done[];
  /** By rewrites, of what is not compressed. */
  readonly changes: Changes;
}

/** A matrix in an entry's data; its tensors are the entry's, under its index: "3.codes". */
export interface Kept extends Pick<EncodingAtRest, 'description' | 'shape'> {
  /** In the encoding's order. */
  readonly suffixes: readonly string[];
}
interface KeptMatrix extends Kept {
  readonly row: LayerRow;
}

/** @throws LapidaryError (system) where the disk does not take it */
export async function writeUnit(journal: Journal, unit: string, { done, changes }: Unit): Promise<void> {
  const tensors = new Map<string, Stored>();
  const matrices = done.map(({ encoding, row }, index) => ({ ...keep(encoding, `${index}.`, tensors), row }));
  const rewritten = [...changes.matrices].map(([name, encoding]) => ({
    name,
    ...keep(encoding, `${name}.`, tensors),
  }));
  for (const [name, vector] of changes.vectors) tensors.set(name, vector);
  await journal.write(unit, {
    tensors,
    data: { matrices, rewritten, vectors: [...changes.vectors.keys()] },
  });
}

/** A matrix for an entry's data, its tensors put beside those that are there. */
export function keep(
  { description, shape, tensors: own }: Encoding,
  prefix: string,
  tensors: Map<string, Stored>,
): Kept {
  for (const [suffix, tensor] of own) tensors.set(prefix + suffix, tensor);
  return { description, shape, suffixes: [...own.keys()] };
}

/** The matrices of these targets as an earlier run left them; undefined where it did not, or not so that they can be used. */
export function readUnit(
  journal: Journal,
  unit: string,
  targets: readonly Pick<Target, 'name' | 'shape'>[],
): Unit | undefined {
  const entry = journal.read(unit);
  if (!entry || !isObject(entry.data)) return undefined;
  const { matrices, rewritten, vectors } = entry.data;
  if (!Array.isArray(matrices) || !Array.isArray(rewritten) || !Array.isArray(vectors)) return undefined;
  if (matrices.length !== targets.length) return undefined;
  const { tensors } = entry;
  try {
    return {
      done: matrices.map((kept, index) => restoreMatrix(kept, targets[index], `${index}.`, tensors)),
      changes: {
        matrices: new Map(rewritten.map((kept) => restoreRewritten(kept, tensors))),
        vectors: new Map(vectors.map((name: string) => [name, tensors.get(name) ?? lost(name)])),
      },
    };
  } catch (cause) {
    if (cause instanceof LapidaryError) return undefined;
    throw cause;
  }
}

function restoreRewritten(kept: unknown, all: EncodingAtRest['tensors']): [string, Encoding] {
  if (!isObject(kept) || !isObject(kept.description) || !Array.isArray(kept.suffixes)) lost('a matrix');
  const { name, ...matrix } = kept as unknown as Kept & { readonly name: string };
  return [name, restored(matrix, `${name}.`, all)];
}

function lost(name: string): never {
  throw new LapidaryError({ what: 'a tensor is missing', where: name });
}

function restoreMatrix(
  kept: unknown,
  { name, shape }: Pick<Target, 'name' | 'shape'>,
  prefix: string,
  all: EncodingAtRest['tensors'],
): Done {
  if (!isKept(kept) || kept.row.name !== name || String(kept.shape) !== String(shape)) {
    throw new LapidaryError({ what: 'this is another matrix', expected: `${name} [${shape.join(', ')}]` });
  }
  return { encoding: restored(kept, prefix, all), row: kept.row };
}

/** The matrix that `keep` was given. @throws LapidaryError where its tensors are not there, or of no encoding */
export function restored(
  { description, shape, suffixes }: Kept,
  prefix: string,
  all: EncodingAtRest['tensors'],
): Encoding {
  // What is missing is found missing there.
  const own = suffixes.flatMap((suffix) => {
    const tensor = all.get(prefix + suffix);
    return tensor ? [[suffix, tensor] as const] : [];
  });
  return restore({ description, shape, tensors: new Map(own) });
}

function isKept(kept: unknown): kept is KeptMatrix {
  return isObject(kept) && isObject(kept.description) && isObject(kept.row) && Array.isArray(kept.suffixes);
}
