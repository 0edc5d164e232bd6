/**
 * What a rewrite has made of the whole model, in the journal. What it has handed on, under whatever name, is not kept: the
 * model before it is there when the run continues. The rest lies there as the method made it.
 */

import { LapidaryError } from '../base/errors.ts';
import { isObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Kept } from '../calibrate/resume.ts';
import { keep, restored } from '../calibrate/resume.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Entry, Journal } from '../io/journal.ts';
import type { Configuration, Model } from '../models/model.ts';

/** What stands under a name: what the model before had under one ("from"), or something new, by its index. */
type Origin = readonly ['from', string] | readonly ['new', number];

interface Data {
  readonly config: Configuration;
  /** In the model's order. */
  readonly matrices: readonly (readonly [name: string, Origin])[];
  readonly vectors: readonly (readonly [name: string, Origin])[];
  readonly files: readonly (readonly [name: string, Origin])[];
  readonly made: readonly Kept[];
}

/**
 * The result from the journal where it is there and fits the model, else made, and written where it may be.
 * @param repeats whether the result is not to be kept
 * @throws LapidaryError (system) where the disk does not take it
 */
export async function onlyOnce(
  {
    journal,
    unit,
    repeats,
  }: {
    readonly journal: Journal | undefined;
    readonly unit: string;
    readonly repeats: boolean;
  },
  before: Model,
  make: () => Promise<Model>,
): Promise<Model> {
  if (!journal || repeats) return make();
  const known = journal.read(unit);
  const found = known && fromEntry(known, before);
  if (found) return found;
  const after = await make();
  // Graphs are functions, which no file holds.
  if (after.architecture === before.architecture) await journal.write(unit, toEntry(before, after));
  return after;
}

function toEntry(before: Model, after: Model): Entry {
  const tensors = new Map<string, Stored>();
  const matrices = traced(before.matrices, after.matrices);
  const vectors = traced(before.vectors, after.vectors);
  const files = traced(before.files, after.files);
  const made = matrices.made.map((encoding, index) => keep(encoding, `matrix.${index}.`, tensors));
  for (const [index, vector] of vectors.made.entries()) tensors.set(`vector.${index}`, vector);
  for (const [index, read] of files.made.entries()) {
    const bytes = read();
    tensors.set(`file.${index}`, stored('uint8', [bytes.byteLength], bytes));
  }
  const data: Data = {
    config: after.config,
    matrices: matrices.origins,
    vectors: vectors.origins,
    files: files.origins,
    made,
  };
  return { tensors, data };
}

/** Where each of the values is from; those that are new once each, whatever number of names they have. */
function traced<T>(
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
): { readonly origins: readonly (readonly [string, Origin])[]; readonly made: readonly T[] } {
  const names = new Map([...before].map(([name, value]) => [value, name]));
  const made = [...new Set(after.values())].filter((value) => !names.has(value));
  const places = new Map(made.map((value, index) => [value, index]));
  const origins = [...after].map(([name, value]): [string, Origin] => {
    const from = names.get(value);
    return [name, from === undefined ? ['new', places.get(value)!] : ['from', from]];
  });
  return { origins, made };
}

/** Undefined where it is of another model. */
function fromEntry({ data, tensors }: Entry, before: Model): Model | undefined {
  if (!isObject(data)) return undefined;
  const { config, matrices, vectors, files, made } = data as unknown as Data;
  try {
    const encodings = made.map((kept, index): Encoding => restored(kept, `matrix.${index}.`, tensors));
    return {
      ...before,
      config,
      matrices: found(matrices, before.matrices, (index) => encodings[index]),
      vectors: found(vectors, before.vectors, (index) => tensors.get(`vector.${index}`)),
      files: found(files, before.files, (index) => {
        const bytes = tensors.get(`file.${index}`)?.bytes();
        return bytes && (() => bytes);
      }),
    };
  } catch (cause) {
    if (cause instanceof LapidaryError) return undefined;
    throw cause;
  }
}

function found<T>(
  origins: readonly (readonly [string, Origin])[],
  before: ReadonlyMap<string, T>,
  made: (index: number) => T | undefined,
): ReadonlyMap<string, T> {
  return new Map(
    origins.map(([name, origin]) => {
      const value = origin[0] === 'from' ? before.get(origin[1]) : made(origin[1]);
      if (value === undefined)
        throw new LapidaryError({ what: 'a part of the model is missing', where: name });
      return [name, value];
    }),
  );
}
