/** Refuses numbers that no method can work with. */

import { LapidaryError } from '../../base/errors.ts';

/** @throws LapidaryError naming the first value of a matrix that is not finite */
export function refuseNotFinite(values: Float32Array, columns: number, what: string): void {
  let at = 0;
  while (at < values.length && Number.isFinite(values[at])) at++;
  if (at === values.length) return;
  throw new LapidaryError({
    what: `${what} are not all finite`,
    found: `${values[at]} in row ${Math.floor(at / columns)}, column ${at % columns}`,
    fix: 'check the checkpoint: a layer with such values gives no text',
  });
}
