/** Rows of CSV and TSV files, through csv-parse. */

import { isUtf8 } from 'node:buffer';
import { CsvError } from 'csv-parse';
import { parse } from 'csv-parse/sync';
import { LapidaryError } from '../base/errors.ts';
import { chosenField } from './documents.ts';

/** Bytes of one row: a quote that is never closed makes one of the rest of the file. */
const largestRow = 64 * 2 ** 20;

/**
 * The column of a table whose first line names them; only that column is kept.
 * @param tabs whether tabs stand between columns; else commas or semicolons, as the first line has them
 * @throws LapidaryError on what is not such a table, or has no such column
 */
export function readTable(
  bytes: Buffer,
  path: string,
  { field, tabs }: { readonly field?: string | undefined; readonly tabs: boolean },
): string[] {
  if (!isUtf8(bytes)) throw notATable(path, 'bytes that are not UTF-8', 'convert it to UTF-8');
  let column: number | undefined;
  const select = (row: string[]): string[] | null => {
    if (column !== undefined) return [row[column]!];
    column = row.indexOf(chosenField(field, row, `${path}, line 1`));
    return null;
  };
  try {
    const rows: string[][] = parse(bytes, {
      bom: true,
      delimiter: tabs ? '\t' : separatorOf(bytes),
      max_record_size: largestRow,
      on_record: select,
      relax_quotes: true,
      skip_empty_lines: true,
    });
    return rows.flat();
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    throw notATable(path, cause.message, 'mend that line, or use JSON lines');
  }
}

/** Of the two, what the first line has more of. */
function separatorOf(bytes: Buffer): ',' | ';' {
  const end = bytes.indexOf(10);
  const line = bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
  return line.split(';').length > line.split(',').length ? ';' : ',';
}

function notATable(where: string, found: string, fix: string): LapidaryError {
  return new LapidaryError({
    what: 'this is not a table that can be read',
    where,
    expected: 'CSV or TSV in UTF-8 whose first line names the columns',
    found,
    fix,
  });
}
