/** How a measured value is shown, in tables and cards alike. */

import type { Estimate } from '../evaluate/evaluate.ts';

/** A value with its interval: "3.473 [3.350, 3.592]". */
export function interval({ value, low, high }: Estimate, digits: number): string {
  return `${value.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
}
