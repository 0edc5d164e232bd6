/**
 * What long work has finished so far, so that the same command continues after a kill: a hidden folder beside the
 * output with one file a unit of work. Everything that decides the result is the journal's key; what was made under
 * another one is thrown away. A unit is a safetensors file that is whole or not there, and its checksum covers key,
 * name and content: whatever is wrong with it, it is as if it were missing, and the work is done again.
 *
 * Only one process at a time writes an output, which `createOutputFolder` sees to.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { canonical, checkDepth, isObject, parseJsonObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { isBeingWritten, whileNobodyWrites, writeFileAtomic } from './output.ts';
import { systemError } from './system-error.ts';
import { openSafetensors } from './safetensors/read.ts';
import type { Tensors } from './safetensors/write.ts';
import { writeSafetensors } from './safetensors/write.ts';

/** A finished unit of work. */
export interface Entry {
  readonly tensors: Tensors;
  /** Plain data: objects, lists, text, booleans, null and numbers, which come back exactly, those that are not finite too. */
  readonly data: unknown;
}

export interface Journal {
  /** Units that are there. */
  readonly size: number;
  /** A unit, by any name, as it was written, its tensors in memory; undefined where it is missing or damaged. */
  read(unit: string): Entry | undefined;
  /** @throws LapidaryError (system) where the disk does not take it */
  write(unit: string, entry: Entry): Promise<void>;
  /** For when the work is done. */
  remove(): void;
}

/** What decides the result, by name: plain JSON. The order of names does not matter. */
export type Key = Readonly<Record<string, unknown>>;

const keyFile = 'key.json';
const extension = '.safetensors';

/** Where the journal of an output lies: beside it. */
export function journalFolder(output: string): string {
  const target = resolve(output);
  return join(dirname(target), `.${basename(target)}.journal`);
}

/**
 * The journal of an output, `.NAME.journal` beside it; nothing is on the disk before the first unit is written.
 * @param output path of the file or folder that the work is for
 */
export function openJournal(
  output: string,
  key: Key,
  { warn }: { readonly warn: (line: string) => void },
): Journal {
  const folder = journalFolder(output);
  const text = canonical(key);
  discardOther(folder, text, () =>
    warn(`what an earlier run left unfinished beside ${output} is thrown away: ${difference(folder, key)}`),
  );
  // Names that come to the same file replace each other, and are told apart by their checksums.
  const place = (unit: string) => join(folder, `${unit.replaceAll(/[^\w-]+/g, '-')}${extension}`);
  return {
    get size() {
      return unitsIn(folder).length;
    },
    read(unit) {
      const path = place(unit);
      return existsSync(path) ? readEntry(path, text, unit) : undefined;
    },
    async write(unit, { tensors, data }) {
      const path = place(unit);
      begin(folder, text);
      const json = encode(data);
      await writeSafetensors(path, tensors, { data: json, sha256: checksum(text, unit, json, tensors) });
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** A part of a journal, for one of several works towards the same output. */
export const partOf = (journal: Journal, part: string): Journal => ({
  get size() {
    return journal.size;
  },
  read: (unit) => journal.read(`${part} ${unit}`),
  write: (unit, entry) => journal.write(`${part} ${unit}`, entry),
  remove: () => journal.remove(),
});

/** A journal that lies in a folder, of work that has not ended or was given up. */
export interface FoundJournal {
  /** The output that it is for, which need not exist. */
  readonly output: string;
  readonly units: number;
  readonly bytes: number;
  /** When it was last written to. */
  readonly changed: Date;
  /** Whether a run writes it now. */
  readonly inUse: boolean;
  /** What the work was; undefined where it does not say. */
  readonly key?: Key | undefined;
}

/** The journals of outputs in a folder, the oldest first. @throws LapidaryError where it cannot be read */
export function findJournals(folder: string): readonly FoundJournal[] {
  const found = (name: string): FoundJournal[] => {
    const [, of] = /^\.(.+)\.journal$/.exec(name) ?? [];
    const path = join(folder, name);
    if (of === undefined || !statSync(path).isDirectory()) return [];
    const output = join(folder, of);
    const files = readdirSync(path).map((file) => statSync(join(path, file)));
    return [
      {
        output,
        units: unitsIn(path).length,
        bytes: files.reduce((sum, { size }) => sum + size, 0),
        changed: new Date(Math.max(statSync(path).mtimeMs, ...files.map(({ mtimeMs }) => mtimeMs))),
        inUse: isBeingWritten(output),
        key: keyOf(path),
      },
    ];
  };
  try {
    const journals = readdirSync(folder).flatMap(found);
    return journals.sort((a, b) => a.changed.getTime() - b.changed.getTime());
  } catch (cause) {
    throw systemError(cause, folder);
  }
}

/** @throws LapidaryError where a run writes the output now */
export function removeJournal(output: string): void {
  const folder = journalFolder(output);
  whileNobodyWrites(output, () => rmSync(folder, { recursive: true, force: true }));
}

function keyOf(folder: string): Key | undefined {
  try {
    return parseJsonObject(readKey(folder) ?? '', { where: folder });
  } catch {
    return undefined;
  }
}

/**
 * The result of work that is not done twice: from the journal where it is there, else made and written. Either way it is
 * what the journal gives back.
 * @param make gives plain data, see `Entry`
 */
export async function remember<T>(
  journal: Journal | undefined,
  unit: string,
  make: () => Promise<T>,
): Promise<T> {
  if (!journal) return make();
  const known = journal.read(unit);
  if (known) return known.data as T;
  const data = await make();
  await journal.write(unit, { tensors: new Map(), data });
  return decode(encode(data)) as T;
}

function unitsIn(folder: string): string[] {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return [];
  return readdirSync(folder).filter((name) => name.endsWith(extension) && !name.startsWith('.'));
}

function discardOther(folder: string, key: string, tell: () => void): void {
  if (!existsSync(folder) || readKey(folder) === key) return;
  if (unitsIn(folder).length > 0) tell();
  rmSync(folder, { recursive: true, force: true });
}

function begin(folder: string, key: string): void {
  if (existsSync(join(folder, keyFile))) return;
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw systemError(cause, folder);
  }
  writeFileAtomic(join(folder, keyFile), Buffer.from(key));
}

function readKey(folder: string): string | undefined {
  try {
    return readFileSync(join(folder, keyFile), 'utf8');
  } catch {
    return undefined;
  }
}

/** Why a journal is another's, for people. */
function difference(folder: string, key: Key): string {
  const other = keyOf(folder);
  if (!other) return 'it does not say what it is of';
  const names = [...new Set([...Object.keys(key), ...Object.keys(other)])];
  const changed = names.filter((name) => canonical(key[name]) !== canonical(other[name]));
  return `it had another ${changed.join(', ')}`;
}

function readEntry(path: string, key: string, unit: string): Entry | undefined {
  try {
    const { tensors: ranges, metadata } = openSafetensors(path);
    const tensors = new Map<string, Stored>();
    for (const [name, { dtype, shape, bytes }] of ranges) tensors.set(name, stored(dtype, shape, bytes()));
    const json = metadata.get('data') ?? '';
    if (metadata.get('sha256') !== checksum(key, unit, json, tensors)) return undefined;
    return { tensors, data: decode(json) };
  } catch (cause) {
    if (cause instanceof LapidaryError) return undefined;
    throw cause;
  }
}

function checksum(key: string, unit: string, json: string, tensors: Tensors): string {
  const hash = createHash('sha256');
  const names = [...tensors.keys()].sort();
  const described = names.map((name) => [name, tensors.get(name)!.dtype, tensors.get(name)!.shape]);
  hash.update(JSON.stringify([key, unit, json, described]));
  for (const name of names) hash.update(tensors.get(name)!.bytes());
  return hash.digest('hex');
}

/** JSON has no way to write these; a text cannot stand for them, since it could be one. */
const numbers: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  '-0': -0,
};

function encode(data: unknown): string {
  return JSON.stringify({ data }, (_, value: unknown) => {
    if (typeof value !== 'number' || (Number.isFinite(value) && !Object.is(value, -0))) return value;
    return { $number: Object.is(value, -0) ? '-0' : String(value) };
  });
}

/** @throws LapidaryError on what is nested too deeply */
function decode(json: string): unknown {
  checkDepth(json, { where: 'data' });
  const { data } = JSON.parse(json, (_, value: unknown) => {
    if (!isObject(value) || typeof value.$number !== 'string') return value;
    return numbers[value.$number];
  }) as { data?: unknown };
  return data;
}
