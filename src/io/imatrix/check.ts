/** What no sum of squares and no count can be, whichever form it comes in. */

import { LapidaryError } from '../../base/errors.ts';
import type { ImatrixEntry } from './entries.ts';

export function damaged(path: string, what: string, expected: string, found: string | number): LapidaryError {
  const fix =
    'the file is damaged, or no importance matrix; make it again (lapidary imatrix, or llama-imatrix)';
  return new LapidaryError({ what, where: path, expected, found: `${found}`, fix });
}

/** @returns the entry. @throws LapidaryError naming the weight and the place */
export function checkedEntry(path: string, name: string, entry: ImatrixEntry): ImatrixEntry {
  const { sums, counts } = entry;
  const count = counts.findIndex((value) => !(value >= 0 && Number.isFinite(value)));
  if (count >= 0)
    throw damaged(path, `the count of "${name}" cannot be`, 'a number from 0 on', counts[count]);
  const columns = sums.length / counts.length;
  if (!Number.isInteger(columns))
    throw damaged(
      path,
      `sums and counts of "${name}" do not fit`,
      `as many sums for each of ${counts.length}`,
      sums.length,
    );
  const at = sums.findIndex((value) => !(value >= 0 && Number.isFinite(value)));
  if (at < 0) return entry;
  const place = counts.length > 1 ? `, expert ${Math.floor(at / columns)}` : '';
  const what = `"${name}" has a sum of squares that cannot be`;
  throw damaged(path, what, 'numbers from 0 on', `${sums[at]} in column ${at % columns}${place}`);
}
