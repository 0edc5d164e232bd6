/** How a measured value is shown, in tables and cards alike. */

interface Shown {
  readonly value: number;
  readonly low?: number | undefined;
  readonly high?: number | undefined;
}

/** A value with its interval, where there is one: "3.473 [3.350, 3.592]". */
export function interval({ value, low, high }: Shown, digits: number): string {
  const shown = value.toFixed(digits);
  if (low === undefined || high === undefined) return shown;
  return `${shown} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
}
