/**
 * JSON that anybody may have written: read within one bound on depth, looked at before it is believed, cut short before
 * it is shown.
 */

import { LapidaryError } from './errors.ts';

/**
 * Lists and objects within each other that a file may hold. Models' settings have four, data some ten; what walks a value
 * by calling itself (JSON.stringify, schemas) is sure of its stack.
 */
export const maxDepth = 100;

/** Where a text comes from, and what its reader can do when it is damaged. */
export interface JsonPlace {
  readonly where: string;
  /** What is wrong with what is no JSON. */
  readonly what?: string;
  readonly fix?: string;
}

/** @throws LapidaryError on bytes that are not UTF-8, on what is no JSON, and on what is nested too deeply */
export function parseJson(source: string | Uint8Array, { where, what, fix }: JsonPlace): unknown {
  try {
    const text = jsonText(source);
    checkDepth(text, { where, ...(fix !== undefined && { fix }) });
    return JSON.parse(text);
  } catch (cause) {
    if (cause instanceof LapidaryError) throw cause;
    const found = shortened((cause as Error).message);
    throw new LapidaryError({ what: what ?? 'this is not JSON', where, found, fix, cause });
  }
}

/** @throws LapidaryError as `parseJson`, and on any other value than an object */
export function parseJsonObject(source: string | Uint8Array, place: JsonPlace): Record<string, unknown> {
  const { where, what = 'not a JSON object', fix } = place;
  const value = parseJson(source, { what, ...place });
  if (isObject(value)) return value;
  throw new LapidaryError({ what, where, expected: 'one JSON object', found: shortened(value), fix });
}

/** Without the mark that some editors begin a file with. */
function jsonText(source: string | Uint8Array): string {
  const text = typeof source === 'string' ? source : new TextDecoder('utf-8', { fatal: true }).decode(source);
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

const [quote, backslash, list, listEnd, object, objectEnd] = Array.from('"\\[]{}', (mark) =>
  mark.charCodeAt(0),
);

/** @throws LapidaryError on a text whose brackets are nested more than `maxDepth` deep, before anything is made of it */
export function checkDepth(text: string, { where, fix }: Pick<JsonPlace, 'where' | 'fix'>): void {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      for (at++; at < text.length && text.charCodeAt(at) !== quote; at++) {
        if (text.charCodeAt(at) === backslash) at++;
      }
    } else if (code === list || code === object) {
      if (++depth > maxDepth) throw tooDeep(where, fix);
    } else if (code === listEnd || code === objectEnd) depth--;
  }
}

/** @throws LapidaryError on a value, however it was read, that is nested too deeply or within itself */
export function checkValueDepth(value: unknown, { where, fix }: Pick<JsonPlace, 'where' | 'fix'>): void {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) throw tooDeep(where, fix);
    const inner = level.flatMap((each) =>
      typeof each === 'object' && each !== null ? Object.values(each) : [],
    );
    level = [...new Set(inner)];
  }
}

function tooDeep(where: string, fix: string | undefined): LapidaryError {
  return new LapidaryError({
    what: 'lists and objects are nested too deeply',
    where,
    expected: `at most ${maxDepth} within each other`,
    fix,
  });
}

/** Whether a parsed value is an object: not null, not a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value for an error message: text as it is, anything else as JSON, of at most so many characters. */
export function shortened(value: unknown, length = 200): string {
  return cut(typeof value === 'string' ? value : asJson(value), length);
}

/** The same, text in quotes. */
export const quoted = (value: unknown, length = 200): string => cut(asJson(value), length);

const cut = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length)}...` : text;

function asJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'nothing';
  } catch {
    // Nested within itself, or a number that JSON has not.
    return typeof value === 'bigint' ? String(value) : `something of type ${typeof value}`;
  }
}

/** JSON with the names of every object in order. */
export function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_, inner: unknown) =>
      isObject(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
        : inner,
    ) ?? ''
  );
}
