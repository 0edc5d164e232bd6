/**
 * Documents out of files: text, JSON lines and Parquet, chosen by extension. Calibration and evaluation read the
 * same way, so that both see the same text.
 */

import { readFile, stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { isObject, parseJson, shortened } from '../base/json.ts';
import { readParquet } from './parquet.ts';
import { fieldOf } from './rows.ts';

export interface DataOptions {
  /** Text files: what stands between two documents; without it the whole file is one. */
  readonly separator?: string | undefined;
  /** JSON lines: the field; Parquet: the column. Default "text". */
  readonly field?: string | undefined;
  /** Reads no more documents than this. */
  readonly limit?: number | undefined;
}

/** Larger files are refused: they would be read whole, and a sample serves as well. */
const largestFile = 2 ** 30;

/**
 * The documents of a file in their order, trimmed, without empty ones.
 * @throws LapidaryError on a file that is missing, empty, too large, not UTF-8, or without the field
 */
export async function readDocuments(path: string, options: DataOptions = {}): Promise<string[]> {
  const size = await sizeOf(path);
  const extension = extname(path).toLowerCase();
  const field = options.field ?? 'text';
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  if (size === 0) throw empty(path);
  if (extension !== '.parquet' && size > largestFile) {
    throw new LapidaryError({
      what: 'this file is too large to read whole',
      where: path,
      expected: `at most ${largestFile} bytes`,
      found: `${size} bytes`,
      fix: 'cut a sample from it, or use Parquet',
    });
  }
  let documents: string[];
  if (extension === '.parquet') documents = await readParquet(path, field, limit);
  else if (['.jsonl', '.ndjson', '.json'].includes(extension))
    documents = readLines(await readFile(path), path, field, limit);
  else documents = splitText(decode(await readFile(path), path), options.separator);
  const whole = documents.map((document) => document.trim()).filter((document) => document !== '');
  if (whole.length === 0) throw empty(path);
  return whole.slice(0, limit);
}

async function sizeOf(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (found.isFile()) return found.size;
  } catch (cause) {
    throw new LapidaryError({
      what: 'cannot read the data file',
      where: path,
      found: String((cause as Error).message),
      cause,
    });
  }
  throw new LapidaryError({
    what: 'the data is not a file',
    where: path,
    expected: 'a text, .jsonl or .parquet file',
  });
}

function empty(path: string): LapidaryError {
  return new LapidaryError({
    what: 'there is no text in this file',
    where: path,
    expected: 'at least one document that is not blank',
    fix: 'give a text, .jsonl or .parquet file with text in it',
  });
}

function decode(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new LapidaryError({ what: 'this is not UTF-8 text', where, fix: 'convert it to UTF-8', cause });
  }
}

function splitText(text: string, separator: string | undefined): string[] {
  return separator ? text.split(separator) : [text];
}

function readLines(bytes: Uint8Array, path: string, field: string, limit: number): string[] {
  const documents: string[] = [];
  let line = 0;
  for (let start = 0; start < bytes.length && documents.length < limit;) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline;
    const where = `${path}, line ${++line}`;
    const text = decode(bytes.subarray(start, end), where).trim();
    start = end + 1;
    if (text === '') continue;
    const value = fieldOf(parseObject(text, where), field, where);
    if (value?.trim()) documents.push(value);
  }
  return documents;
}

function parseObject(text: string, where: string): Record<string, unknown> {
  const value = parseJson(text, { what: 'this line is not JSON', where });
  if (isObject(value)) return value;
  throw new LapidaryError({
    what: 'this line is not an object',
    where,
    expected: '{"text": "..."}',
    found: shortened(text, 60),
  });
}
