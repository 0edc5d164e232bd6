/** What the walk keeps of a finished part in a journal: the compressed matrices as they are stored, and their rows. */

import { LapidaryError } from '../base/errors.ts';
import { isObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import type { Encoding, EncodingAtRest } from '../encodings/encoding.ts';
import { restore } from '../encodings/restore.ts';
import type { Journal } from '../io/journal.ts';
import type { LayerRow, Target } from './walk.ts';

/** A matrix that is compressed. */
export interface Done {
  readonly encoding: Encoding;
  readonly row: LayerRow;
}

/** A matrix in an entry's data; its tensors are the entry's, under its index: "3.codes". */
interface Kept extends Pick<EncodingAtRest, 'description' | 'shape'> {
  /** In the encoding's order. */
  readonly suffixes: readonly string[];
  readonly row: LayerRow;
}

/** @throws LapidaryError (system) where the disk does not take it */
export async function writeUnit(journal: Journal, unit: string, done: readonly Done[]): Promise<void> {
  const tensors = new Map<string, Stored>();
  const data = done.map(({ encoding: { description, shape, tensors: own }, row }, index): Kept => {
    for (const [suffix, tensor] of own) tensors.set(`${index}.${suffix}`, tensor);
    return { description, shape, suffixes: [...own.keys()], row };
  });
  await journal.write(unit, { tensors, data });
}

/** The matrices of these targets as an earlier run left them; undefined where it did not, or not so that they can be used. */
export function readUnit(
  journal: Journal,
  unit: string,
  targets: readonly Pick<Target, 'name' | 'shape'>[],
): readonly Done[] | undefined {
  const entry = journal.read(unit);
  if (!entry || !Array.isArray(entry.data) || entry.data.length !== targets.length) return undefined;
  try {
    return entry.data.map((kept, index) => restoreMatrix(kept, targets[index], `${index}.`, entry.tensors));
  } catch (cause) {
    if (cause instanceof LapidaryError) return undefined;
    throw cause;
  }
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
  const { description, suffixes, row } = kept;
  // What is missing is found missing there.
  const own = suffixes.flatMap((suffix) => {
    const tensor = all.get(prefix + suffix);
    return tensor ? [[suffix, tensor] as const] : [];
  });
  return { encoding: restore({ description, shape, tensors: new Map(own) }), row };
}

function isKept(kept: unknown): kept is Kept {
  return isObject(kept) && isObject(kept.description) && isObject(kept.row) && Array.isArray(kept.suffixes);
}
