/** Sums, which many files need and the language does not have. */

export const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
