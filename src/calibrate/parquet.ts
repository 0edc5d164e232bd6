/** Reads documents from Parquet files, row group by row group, with hyparquet in a process that can be ended. */

import { LapidaryError } from '../base/errors.ts';
import type { Question } from '../base/guard/guard.ts';
import { guarded, LibraryFailure } from '../base/guard/guard.ts';
import type { Document } from './documents.ts';
import { chosenField, documentOf, isFull } from './documents.ts';

const library = guarded(new URL('./parquet-library.js', import.meta.url), 'the reader of Parquet');

interface Group {
  readonly rows: number;
  readonly bytes: readonly { readonly column: string; readonly bytes: number }[];
}

interface Opened {
  readonly columns: readonly string[];
  readonly groups: readonly Group[];
}

/**
 * The rows of a file in their order, with one column each; row groups are read as they are asked for.
 * @param choose the column, of those that there are
 * @param largest bytes that what is read may unpack to
 * @throws LapidaryError on a file that is damaged or unpacks to more
 */
export function* parquetRows(
  path: string,
  choose: (columns: readonly string[]) => string,
  largest: number,
): Generator<Record<string, unknown>> {
  const open: Question = { job: 'open', value: { path }, where: path };
  const { answer, kept } = orInvalid(path, () => library.keep<Opened>(open));
  const { columns, groups } = answer;
  const field = choose(columns);
  let [rowStart, claimed, read] = [0, 0, 0];
  for (const [index, { rows, bytes }] of groups.entries()) {
    const own = bytes.reduce((sum, part) => sum + (part.column === field ? part.bytes : 0), 0);
    claimed += own;
    if (!(claimed <= largest)) throw tooLarge(path, largest, claimed);
    for (let [from, left] = [0, rows]; left > 0;) {
      const value = { index, field, rowStart, rows, from };
      const some = orInvalid(path, () =>
        kept.ask<{ readonly values: readonly unknown[]; readonly left: number; readonly bytes: number }>({
          job: 'read',
          value,
          where: path,
          bytes: own,
        }),
      );
      // A text that stands once in the file may be in many rows.
      read += some.bytes;
      if (read > largest) throw tooLarge(path, largest, read);
      for (const each of some.values) yield { [field]: each };
      if (some.values.length === 0) break;
      from += some.values.length;
      left = some.left;
    }
    rowStart += rows;
  }
}

/** Reads row groups until there are enough documents. @param largest bytes that they may unpack to */
export function readParquet(
  path: string,
  field: string | undefined,
  limit: number,
  largest: number,
): Document[] {
  const documents: Document[] = [];
  let column = '';
  const choose = (columns: readonly string[]) => (column = chosenField(field, columns, path));
  let number = 0;
  for (const row of parquetRows(path, choose, largest)) {
    const document = documentOf(row, column, `${path}, row ${number++}`);
    if (isFull(document)) documents.push(document);
    if (documents.length >= limit) break;
  }
  return documents;
}

function tooLarge(where: string, largest: number, found: number): LapidaryError {
  return new LapidaryError({
    what: 'this column is too large to read whole',
    where,
    expected: `at most ${largest} bytes unpacked`,
    found: `${found} bytes`,
    fix: 'cut a sample from it, or read fewer documents',
  });
}

function orInvalid<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof LibraryFailure)) throw cause;
    throw new LapidaryError({
      what: 'this is not a Parquet file that can be read',
      where: path,
      found: cause.message,
      fix: 'write it again with a current library, or use JSON lines',
      cause,
    });
  }
}
