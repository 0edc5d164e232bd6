/**
 * The values that codes stand for, in rising order, and where one gives way to the next: what rounding to the nearest
 * needs, whatever the format. Halves go to the neighbour with the even code, as IEEE 754 has it.
 */

export interface LevelTable {
  /** A power of two; the arrays are filled up to it. */
  readonly size: number;
  /** Rising; without the second of two zeros. */
  readonly levels: Float32Array;
  /** A value from `thresholds[i]` on is nearer to level i + 1 than to level i; NaN, which nothing reaches, at the end. */
  readonly thresholds: Float32Array;
  /** The code of each level. */
  readonly codes: Uint8Array;
}

/** @param values by code; NaN where a code is no number */
export function levelTable(values: Float32Array): LevelTable {
  const sorted = Array.from(values, (value, code) => ({ value, code }))
    .filter(({ value }) => !Number.isNaN(value) && !Object.is(value, -0))
    .sort((a, b) => a.value - b.value);
  const size = 2 ** Math.ceil(Math.log2(sorted.length));
  const levels = new Float32Array(size);
  const thresholds = new Float32Array(size).fill(Number.NaN);
  const codes = new Uint8Array(size);
  sorted.forEach(({ value, code }, i) => {
    levels[i] = value;
    codes[i] = code;
    if (i > 0) thresholds[i - 1] = firstAbove((sorted[i - 1].value + value) / 2, code % 2 === 0);
  });
  return { size, levels, thresholds, codes };
}

/** The index of the level nearest to a value; 0 for NaN. */
export function nearestLevel({ size, thresholds }: LevelTable, value: number): number {
  let index = 0;
  for (let step = size >> 1; step > 0; step >>= 1) if (value >= thresholds[index + step - 1]) index += step;
  return index;
}

/** The first float32 above a number, or equal to it where that counts. */
function firstAbove(middle: number, included: boolean): number {
  const near = Float32Array.of(middle);
  if (near[0] > middle || (near[0] === middle && included)) return near[0];
  const bits = new Int32Array(near.buffer);
  if (near[0] === 0) bits[0] = 1;
  else bits[0] += near[0] > 0 ? 1 : -1;
  return near[0];
}
