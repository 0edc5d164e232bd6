/** Rows of data files, whatever they were written in: the text in one field of each. */

import { LapidaryError } from '../base/errors.ts';

/** The text in a row's field; undefined where the row has none. */
export function fieldOf(row: Record<string, unknown>, field: string, where: string): string | undefined {
  if (!Object.hasOwn(row, field)) throw missingField(field, Object.keys(row), where);
  const value = row[field];
  if (typeof value === 'string') return value;
  if (value === null || value === undefined) return undefined;
  throw new LapidaryError({
    what: `"${field}" does not hold text`,
    where,
    expected: 'a string',
    found: Array.isArray(value) ? 'a list' : typeof value,
  });
}

export function missingField(field: string, known: readonly string[], where: string): LapidaryError {
  return new LapidaryError({
    what: `there is no field "${field}"`,
    where,
    found:
      known.length > 0 ? `the fields ${known.map((name) => `"${name}"`).join(', ')}` : 'no fields at all',
    fix: 'name the field that holds the text',
  });
}
