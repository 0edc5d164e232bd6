/** When a rate differs from another by more than medians of short runs do. Needs nothing of Node: the page asks, too. */

export const isSlower = (rate: number, before: number): boolean => rate < 0.9 * before;

export const isFaster = (rate: number, before: number): boolean => isSlower(before, rate);
