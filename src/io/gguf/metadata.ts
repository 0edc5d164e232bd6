/** Values out of a GGUF's metadata, checked: each getter says which key is wrong, what was expected and what was found. */

import { LapidaryError } from '../../base/errors.ts';
import type { GgufMetadata, GgufValue } from './types.ts';

/** @throws LapidaryError that names the key */
export function wrongKey(key: string, expected: string, found: GgufValue | undefined): LapidaryError {
  return new LapidaryError({
    what: found === undefined ? `no key "${key}"` : `"${key}" has a value that cannot be honoured`,
    where: 'GGUF metadata',
    expected,
    found: found === undefined ? 'nothing' : describe(found),
  });
}

/** A number of any width; files differ in which one they use. */
export function numberAt(metadata: GgufMetadata, key: string): number | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  const value = 'value' in found && typeof found.value === 'bigint' ? Number(found.value) : valueOf(found);
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrongKey(key, 'a number', found);
  return value;
}

/** A whole number from `least` on; absent, an error. */
export function countAt(metadata: GgufMetadata, key: string, least = 1): number {
  const value = numberAt(metadata, key);
  if (value === undefined || !Number.isSafeInteger(value) || value < least)
    throw wrongKey(key, `a whole number from ${least} on`, metadata.get(key));
  return value;
}

/** One whole number for all, or an array with one for each of `length`, from 0 on; undefined where the key is absent. */
export function countsAt(metadata: GgufMetadata, key: string, length: number): readonly number[] | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== 'array') return new Array<number>(length).fill(countAt(metadata, key));
  const values = Array.from(found.values as ArrayLike<unknown>, Number);
  if (values.length !== length || !values.every((value) => Number.isSafeInteger(value) && value >= 0))
    throw wrongKey(key, `a whole number, or ${length} of them`, found);
  return values;
}

export function textAt(metadata: GgufMetadata, key: string): string | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== 'string') throw wrongKey(key, 'a text', found);
  return found.value;
}

export function flagAt(metadata: GgufMetadata, key: string): boolean | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== 'bool') throw wrongKey(key, 'true or false', found);
  return found.value;
}

export function textsAt(metadata: GgufMetadata, key: string): readonly string[] | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== 'array' || found.of !== 'string') throw wrongKey(key, 'an array of texts', found);
  return found.values;
}

export function numbersAt(metadata: GgufMetadata, key: string): ArrayLike<number> | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== 'array') throw wrongKey(key, 'an array of numbers', found);
  switch (found.of) {
    case 'string':
    case 'bool':
      throw wrongKey(key, 'an array of numbers', found);
    case 'uint64':
    case 'int64':
      return Array.from(found.values, Number);
    default:
      return found.values;
  }
}

function valueOf(found: GgufValue): unknown {
  return found.type === 'array' ? undefined : found.value;
}

function describe(found: GgufValue): string {
  if (found.type === 'array') return `an array of ${found.values.length} ${found.of}`;
  const text = typeof found.value === 'string' ? JSON.stringify(found.value) : String(found.value);
  return `${text.length > 100 ? `${text.slice(0, 100)}...` : text} (${found.type})`;
}
