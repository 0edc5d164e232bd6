/**
 * Reads values out of config.json, which anybody may have written: each getter says which key is wrong, what was
 * expected there and what was found.
 */

import { isDeepStrictEqual } from 'node:util';
import { LapidaryError } from '../base/errors.ts';
import { quoted } from '../base/json.ts';

export type Json = Readonly<Record<string, unknown>>;

/** @throws LapidaryError that names the key. */
export function wrongSetting(key: string, expected: string, found: unknown, fix?: string): LapidaryError {
  return new LapidaryError({
    what: `"${key}" has a value that cannot be honoured`,
    where: 'config.json',
    expected,
    found: quoted(found),
    fix,
  });
}

/**
 * A count of at least 1. An absent or null key gives `fallback`, or an error where there is none.
 * @param most that it may be
 */
export function count(json: Json, key: string, fallback?: number, most = 2 ** 31 - 1): number {
  const value = json[key] ?? fallback;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > most) {
    const limit = typeof value === 'number' && value > most ? `, at most ${most}` : '';
    throw wrongSetting(key, `a whole number above 0${limit}`, value);
  }
  return value;
}

/**
 * One count for all layers, or a list with one for each; 0 where a layer goes without.
 * @returns one for each layer
 */
export function counts(
  json: Json,
  key: string,
  layers: number,
  fallback?: readonly number[],
): readonly number[] {
  const value = json[key] ?? fallback;
  if (!Array.isArray(value)) return new Array<number>(layers).fill(count(json, key));
  const fits = value.length === layers && value.every((each) => Number.isSafeInteger(each) && each >= 0);
  if (!fits) throw wrongSetting(key, `a whole number above 0, or a list of ${layers} from 0 on`, value);
  return value as number[];
}

/** As config.json says it: one number where all layers have it, else a list. */
export const asSetting = (values: readonly number[]): number | readonly number[] =>
  values.every((value) => value === values[0]) ? values[0] : values;

/**
 * With older names of keys in the place of their own.
 * @throws LapidaryError where both are there and do not agree
 */
export function renamed(json: Json, names: Readonly<Record<string, string>>): Json {
  const own = { ...json };
  for (const [older, name] of Object.entries(names)) {
    const value = own[older] ?? undefined;
    delete own[older];
    if (value === undefined) continue;
    if (!isDeepStrictEqual(own[name] ?? value, value))
      throw wrongSetting(older, `what "${name}" says, ${quoted(own[name])}`, value);
    own[name] = value;
  }
  return own;
}

/** A finite number above 0. */
export function positive(json: Json, key: string, fallback?: number): number {
  const value = json[key] ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw wrongSetting(key, 'a number above 0', value);
  }
  return value;
}

/** True or false. */
export function flag(json: Json, key: string, fallback: boolean): boolean {
  const value = json[key] ?? fallback;
  if (typeof value !== 'boolean') throw wrongSetting(key, 'true or false', value);
  return value;
}

/** One of the given words. */
export function word<W extends string>(json: Json, key: string, known: readonly W[], fallback?: W): W {
  const value = json[key] ?? fallback;
  const found = known.find((candidate) => candidate === value);
  if (found === undefined) throw wrongSetting(key, known.join(', '), value);
  return found;
}

/** Token ids under a key that holds one, a list, or null. */
export function tokens(json: Json, key: string): readonly number[] {
  const value = json[key];
  const list = value === undefined || value === null ? [] : Array.isArray(value) ? value : [value];
  for (const id of list) {
    if (!Number.isSafeInteger(id) || id < 0) throw wrongSetting(key, 'a token id or a list of them', value);
  }
  return list;
}
