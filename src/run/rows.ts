/** Rows of a report over several walks: a matrix keeps its row when a rewrite between them gives it another name. */

import type { LayerRow } from '../calibrate/planned.ts';
import type { Walked } from '../calibrate/walk.ts';
import type { Model } from '../models/model.ts';

export interface Rows {
  /** Of the matrices that a walk has compressed; of one that an earlier walk had, both methods are named. */
  add(walked: Walked): void;
  /** Under the names that matrices have now; those that are gone, or are others, have no rows. */
  follow(before: Model, after: Model): void;
  all(): readonly LayerRow[];
}

export function openRows(): Rows {
  let rows = new Map<string, LayerRow>();
  return {
    add({ layers }) {
      for (const row of layers) {
        const before = rows.get(row.name);
        const both = before && { method: `${before.method}+${row.method}`, bytesBefore: before.bytesBefore };
        rows.set(row.name, { ...row, ...both });
      }
    },
    follow(before, after) {
      const by = new Map([...rows].map(([name, row]) => [before.matrices.get(name), row]));
      rows = new Map();
      for (const [name, encoding] of after.matrices) {
        const row = by.get(encoding);
        if (row) rows.set(name, { ...row, name });
        // One that others share is stored once.
        by.delete(encoding);
      }
    },
    all: () => [...rows.values()],
  };
}
