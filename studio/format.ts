/** Numbers as people read them. */

/** A value with its 95% interval, which of a single sequence there is none. */
export interface Estimate {
  readonly value: number;
  readonly low?: number | undefined;
  readonly high?: number | undefined;
}

export { formatBytes as bytes, formatCount as count } from '../src/cli/table.ts';

/** JSON has no infinity: it arrives as null. */
export function fixed(value: number | null, digits: number): string {
  return value !== null && Number.isFinite(value) ? value.toFixed(digits) : '∞';
}

/** So many significant digits, never as 1.2e-5: "0.000012". */
export function significant(value: number, digits = 3): string {
  if (value === 0 || !Number.isFinite(value)) return value === 0 ? '0' : '∞';
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(decimals, 12));
}

/** A share as "97.6%", small ones with more digits. */
export function percent(share: number, digits?: number): string {
  return `${digits === undefined ? significant(100 * share, 2) : (100 * share).toFixed(digits)}%`;
}

/** "3.350 to 3.592"; undefined where there is no interval. */
export function interval({ low, high }: Omit<Estimate, 'value'>, show: number | ((value: number) => string)) {
  if (low === undefined || high === undefined) return undefined;
  const text = typeof show === 'number' ? (value: number) => fixed(value, show) : show;
  return `${text(low)} to ${text(high)}`;
}

/** " (3.350 to 3.592)", or nothing. */
export function inBrackets(estimate: Omit<Estimate, 'value'>, show: Parameters<typeof interval>[1]): string {
  const found = interval(estimate, show);
  return found === undefined ? '' : ` (${found})`;
}

export const whole = (value: number) => value.toLocaleString('en');

/** "3.02× smaller", "1.52× larger", "the same size"; of what was not there before, or is gone, that */
export function size(before: number, after: number): string {
  if (before === after) return 'the same size';
  if (before === 0 || after === 0) return after === 0 ? 'removed' : 'added';
  return after > before
    ? `${significant(after / before)}× larger`
    : `${significant(before / after)}× smaller`;
}

/** Seconds as "12.3 s" or "4 min 10 s". */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
