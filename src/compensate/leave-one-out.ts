/**
 * What it would save to keep single weights out of their group, as SpQR decides (arXiv:2306.03078, section 3.2): the error
 * of the whole group less that of the group without the weight, whose range may then be smaller. Only the least and the
 * greatest weight of a group have a say in its range; any other saves its own error.
 */

import type { Matrix } from '../contract/statistic.ts';

interface Rule {
  /** Weights along a row that share a range. */
  readonly length: number;
  /** The largest code. */
  readonly top: number;
  readonly symmetric: boolean;
}

/**
 * @param importance how much the squared error of each column counts, [columns]
 * @returns row-major, as the weights; 0 where nothing is saved
 */
export function savings({ columns, values }: Matrix, importance: Float64Array, rule: Rule): Float32Array {
  const saved = new Float32Array(values.length);
  const { length } = rule;
  for (let row = 0; row < values.length; row += columns) {
    for (let start = 0; start < columns; start += length) {
      const end = Math.min(start + length, columns);
      const group = values.subarray(row + start, row + end);
      const counts = importance.subarray(start, end);
      const own = saved.subarray(row + start, row + end);
      const whole = error(group, counts, rule, -1, own);
      let [least, greatest] = [0, 0];
      for (let i = 1; i < group.length; i++) {
        if (group[i] < group[least]) least = i;
        if (group[i] > group[greatest]) greatest = i;
      }
      for (const extreme of [least, greatest])
        own[extreme] = Math.max(whole - error(group, counts, rule, extreme), 0);
    }
  }
  return saved;
}

/**
 * Weighted squared error of a group whose range is that of all weights but one.
 * @param without the one that is left out; -1 for none
 * @param each where the error of each weight goes
 */
function error(
  group: Float32Array,
  counts: Float64Array,
  { top, symmetric }: Rule,
  without: number,
  each?: Float32Array,
): number {
  let [low, high] = [0, 0];
  for (let i = 0; i < group.length; i++) {
    if (i === without) continue;
    low = Math.min(low, group[i]);
    high = Math.max(high, group[i]);
  }
  if (symmetric) {
    high = Math.max(-low, high);
    low = -high;
  }
  const scale = (high - low) / top || 1;
  const zero = symmetric ? (top + 1) / 2 : Math.round(-low / scale);
  let sum = 0;
  for (let i = 0; i < group.length; i++) {
    if (i === without) continue;
    const code = Math.min(Math.max(Math.round(group[i] / scale) + zero, 0), top);
    const cost = (group[i] - (code - zero) * scale) ** 2 * counts[i];
    if (each) each[i] = cost;
    sum += cost;
  }
  return sum;
}
