/** Checkpoints that hold queries, keys and values in one matrix. */

import type { LayerPlan } from '../model.ts';
import type { Joined } from './traits.ts';

/**
 * Rows of groups of heads: the queries of a group, its key, its value. Where every head has keys and values of its own, these
 * are head by head; where all share one, the queries of all come first.
 * @param module that holds the joined matrix "query_key_value", and "dense" behind it
 * @returns with them our names for what is joined, and those of a feed-forward as it stands beside in such checkpoints
 */
export function joinedByGroups(module: string) {
  const names = {
    query: `${module}.q_proj`,
    key: `${module}.k_proj`,
    value: `${module}.v_proj`,
    output: `${module}.dense`,
    up: 'dense_h_to_4h',
    down: 'dense_4h_to_h',
  };
  const joined = (part: string, { heads, keyValueHeads, headSize }: LayerPlan): Joined | undefined => {
    const place = [names.query, names.key, names.value].indexOf(part);
    if (place < 0) return undefined;
    const queries = heads / keyValueHeads;
    const [first, count] = place === 0 ? [0, queries] : [queries + place - 1, 1];
    const rows = Array.from({ length: keyValueHeads * count * headSize }, (_, row) => {
      const head = Math.floor(row / headSize);
      const block = Math.floor(head / count) * (queries + 2) + first + (head % count);
      return block * headSize + (row % headSize);
    });
    return { name: `${module}.query_key_value`, rows };
  };
  return { names, joined };
}
