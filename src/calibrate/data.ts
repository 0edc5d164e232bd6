/**
 * Documents out of files: text, JSON (lines or an array), CSV, TSV and Parquet, chosen by extension. Calibration and
 * evaluation read the same way, so that both see the same text.
 */

import { readFile, stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { parseJson } from '../base/json.ts';
import type { Document } from './documents.ts';
import { documentOf, isFull } from './documents.ts';
import { readParquet } from './parquet.ts';
import { readTable } from './table.ts';

export interface DataOptions {
  /** Text files: what stands between two documents; without it the whole file is one. */
  readonly separator?: string | undefined;
  /** JSON: the field; tables and Parquet: the column. Default: "text", else "messages" or "conversations". */
  readonly field?: string | undefined;
  /** Reads no more documents than this. */
  readonly limit?: number | undefined;
}

/** Larger files are refused: they would be read whole, and a sample serves as well. */
const largestFile = 2 ** 30;
/** Of one JSON value, which is text first and then ten times as much in memory. */
const largestArray = 2 ** 28;

/**
 * The documents of a file in their order, trimmed, without empty ones.
 * @throws LapidaryError on a file that is missing, empty, too large, not UTF-8, or without the field
 */
export async function readDocuments(path: string, options: DataOptions = {}): Promise<Document[]> {
  const size = await sizeOf(path);
  const extension = extname(path).toLowerCase();
  const { field, separator } = options;
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  if (size === 0) throw empty(path);
  if (extension !== '.parquet' && size > largestFile) throw tooLarge(path, size, largestFile);
  let documents: Document[];
  if (extension === '.parquet') documents = readParquet(path, field, limit, largestFile);
  else if (['.csv', '.tsv', '.tab'].includes(extension))
    documents = readTable(await readFile(path), path, { field, tabs: extension !== '.csv' });
  else if (['.jsonl', '.ndjson', '.json'].includes(extension))
    documents = readJson(await readFile(path), path, field, limit);
  else documents = splitText(decode(await readFile(path), path), separator);
  const whole = documents
    .map((document) => (typeof document === 'string' ? document.trim() : document))
    .filter((document) => document.length > 0);
  if (whole.length === 0) throw empty(path);
  return whole.slice(0, limit);
}

function tooLarge(path: string, size: number, most: number): LapidaryError {
  return new LapidaryError({
    what: 'this file is too large to read whole',
    where: path,
    expected: `at most ${most} bytes`,
    found: `${size} bytes`,
    fix: 'cut a sample from it, or use Parquet',
  });
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
    expected: 'a text, .jsonl, .json, .csv, .tsv or .parquet file',
  });
}

function empty(path: string): LapidaryError {
  return new LapidaryError({
    what: 'there is no text in this file',
    where: path,
    expected: 'at least one document that is not blank',
    fix: 'give a text, .jsonl, .json, .csv, .tsv or .parquet file with text in it',
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

/** An array of rows, where the file begins as one; else a row a line. */
function readJson(bytes: Uint8Array, path: string, field: string | undefined, limit: number): Document[] {
  const first = bytes.find((byte) => byte > 32);
  const isArray = first === '['.charCodeAt(0);
  if (isArray && bytes.length > largestArray) throw tooLarge(path, bytes.length, largestArray);
  const rows = isArray ? wholeArray(decode(bytes, path), path) : undefined;
  if (!rows) return readLines(bytes, path, field, limit);
  return rows.map((row, index) => documentOf(row, field, `${path}, row ${index + 1}`)).filter(isFull);
}

/** Undefined for lines that are arrays each, and for what is no JSON, which is told by its line. */
function wholeArray(text: string, where: string): readonly unknown[] | undefined {
  try {
    return parseJson(text, { where }) as readonly unknown[];
  } catch {
    return undefined;
  }
}

function readLines(bytes: Uint8Array, path: string, field: string | undefined, limit: number): Document[] {
  const documents: Document[] = [];
  let line = 0;
  for (let start = 0; start < bytes.length && documents.length < limit;) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline;
    const where = `${path}, line ${++line}`;
    const text = decode(bytes.subarray(start, end), where).trim();
    start = end + 1;
    if (text === '') continue;
    const document = documentOf(parseJson(text, { what: 'this line is not JSON', where }), field, where);
    if (isFull(document)) documents.push(document);
  }
  return documents;
}
