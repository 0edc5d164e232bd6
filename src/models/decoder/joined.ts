/** Checkpoints that hold queries, keys and values in one matrix. */

import type { LayerPlan } from '../model.ts';
import type { Joined } from './traits.ts';

/**
 * Rows of groups of heads: the queries of a group, its key, its value. Where every head has keys and values of its own, these
 * are head by head; where all share one, the queries of all come first.
 * @param name of the joined matrix within its layer
 * @param parts our names of queries, keys and values there
 */
export const joinedByGroups =
  (name: string, parts: readonly [query: string, key: string, value: string]) =>
  (part: string, { heads, keyValueHeads, headSize }: LayerPlan): Joined | undefined => {
    const place = parts.indexOf(part);
    if (place < 0) return undefined;
    const queries = heads / keyValueHeads;
    const [first, count] = place === 0 ? [0, queries] : [queries + place - 1, 1];
    const rows = Array.from({ length: keyValueHeads * count * headSize }, (_, row) => {
      const head = Math.floor(row / headSize);
      const block = Math.floor(head / count) * (queries + 2) + first + (head % count);
      return block * headSize + (row % headSize);
    });
    return { name, rows };
  };
