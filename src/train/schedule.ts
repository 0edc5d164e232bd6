/** How fast to learn at each step. */

export interface ScheduleOptions {
  readonly peak: number;
  readonly steps: number;
  /** Steps over which the rate rises from zero. */
  readonly warmup: number;
}

/**
 * A straight rise to the peak, then a straight fall to zero after the last step ("straight to zero" does best for
 * small models trained for more than a few tokens a weight: Bergsma et al. 2025).
 * @returns the rate at a step counted from 1.
 */
export function linearSchedule({ peak, steps, warmup }: ScheduleOptions): (step: number) => number {
  return (step) => {
    if (step <= warmup) return (peak * step) / warmup;
    return (peak * Math.max(0, steps + 1 - step)) / (steps + 1 - warmup);
  };
}
