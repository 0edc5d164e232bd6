/**
 * A grid says how a group of weights becomes codes. Methods choose codes on any grid, encodings store them; so how
 * values are rounded and how they are stored are chosen apart. Here: integers with a scale and a zero point,
 * w = (code - zero) * scale, in the float32 arithmetic of the GPTQ authors' quantizer (IST-DASLab/gptq, quant.py),
 * so that their numbers can be met.
 */

import { halfCode, halfValue } from '../base/half.ts';
import { roundEven } from '../base/round.ts';

export interface Grid<Parameters> {
  /** Codes are 0 to `levels` - 1. */
  readonly levels: number;
  /** The parameters of one group of weights. */
  fit(values: Float32Array): Parameters;
  round(value: number, parameters: Parameters): number;
  value(code: number, parameters: Parameters): number;
}

export interface IntegerParameters {
  readonly scale: number;
  /** The code that stands for 0. */
  readonly zero: number;
}

/** 3 is stored in four bits, because no engine multiplies three-bit codes from ONNX. */
export type Bits = 2 | 3 | 4 | 8;
/** The range that codes span: all values, or shrunk to the least error of sum |q - w|^2.4, in 80 steps of 1%. */
export type RangeRule = 'minmax' | 'mse';
/**
 * "short" is float16 with so few digits that its product with every zero point is a float16 as well, which is what
 * ggml's Q4_1 stores; its smallest numbers, which are not normal ones, are among them. "byte" is float16 with four digits,
 * which a byte holds.
 */
export const scaleTypes = ['float16', 'float32', 'short', 'byte'] as const;
export type ScaleType = (typeof scaleTypes)[number];

export interface IntegerGridOptions {
  readonly bits: Bits;
  /** The zero point is 2^(bits - 1), and the range the same on both sides of it. */
  readonly symmetric: boolean;
  readonly range: RangeRule;
  /** Scales are rounded to what this type holds before any code is chosen. */
  readonly scales: ScaleType;
}

/** The authors' search: exponent of the error, steps of the grid, and how many of them are tried. */
const search = { norm: 2.4, steps: 100, tried: 80 } as const;

const { fround } = Math;

/** The grid one number at a time: what the kernels `fit` and `round` compute in tiles, and are held against. */
export function integerGrid({ bits, symmetric, range, scales }: IntegerGridOptions): Grid<IntegerParameters> {
  const top = 2 ** bits - 1;
  const centre = 2 ** (bits - 1);
  const stored = scaleRounding({ bits, symmetric, scales });

  function parameters(low: number, high: number): IntegerParameters {
    const exact = fround(fround(high - low) / top);
    const scale = stored(exact);
    return { scale, zero: symmetric ? centre : clamp(roundEven(fround(-low / scale)), top) };
  }

  const round = (value: number, { scale, zero }: IntegerParameters) =>
    clamp(roundEven(fround(value / scale)) + zero, top);
  const value = (code: number, { scale, zero }: IntegerParameters) => fround(scale * (code - zero));

  function error(values: Float32Array, candidate: IntegerParameters): number {
    let sum = 0;
    for (const each of values) {
      sum += Math.abs(fround(value(round(each, candidate), candidate) - each)) ** search.norm;
    }
    return sum;
  }

  function fit(values: Float32Array): IntegerParameters {
    const [low, high] = bounds(values, symmetric);
    let best = parameters(low, high);
    if (range === 'minmax') return best;
    let least = error(values, best);
    for (let step = 1; step < search.tried; step++) {
      const share = fround(1 - step / search.steps);
      const candidate = parameters(fround(share * low), fround(share * high));
      const loss = error(values, candidate);
      if (loss < least) {
        least = loss;
        best = candidate;
      }
    }
    return best;
  }

  return { levels: top + 1, fit, round, value };
}

type ScaleOptions = Pick<IntegerGridOptions, 'bits' | 'symmetric' | 'scales'>;

/** The nearest number that scales are stored as. */
export function scaleRounding(options: ScaleOptions): (scale: number) => number {
  const digits = scaleDigits(options);
  return {
    float16: nearestHalf,
    float32: fround,
    short: (scale: number) => nearestShort(scale, digits),
    byte: (scale: number) => nearestShort(scale, digits),
  }[options.scales];
}

/** What float16 holds of a scale; one that is too small or too large for its normal numbers stays as it is. */
function nearestHalf(scale: number): number {
  const rounded = halfValue(halfCode(scale));
  return rounded >= 2 ** -14 && rounded <= 65504 ? rounded : scale;
}

/** Significant binary digits of scales; 11 in float16. */
function scaleDigits({ bits, symmetric, scales }: ScaleOptions): number {
  if (scales === 'float32') return 24;
  if (scales === 'byte') return 4;
  return scales === 'short' && !symmetric ? 11 - bits : 11;
}

/** As the kernel `fit` takes it: 0 for float32, 1 for float16, the digits of short scales. */
export const scaleForm = (options: ScaleOptions): number =>
  ({ float32: 0, float16: 1, short: scaleDigits(options), byte: scaleDigits(options) })[options.scales];

const scratch = new Float32Array(1);
const scratchBits = new Int32Array(scratch.buffer);

/** A float16 of so few digits, at least the smallest one; a scale that is too large for float16 stays as it is. */
function nearestShort(scale: number, digits: number): number {
  // Below float16's normal numbers all have one distance, that of float32's from 0.5 on.
  scratch[0] = scale < 2 ** -14 ? Math.max(fround(fround(scale + 0.5) - 0.5), 2 ** -24) : scale;
  const dropped = 24 - digits;
  const even = (scratchBits[0] >>> dropped) & 1;
  scratchBits[0] = (scratchBits[0] + 2 ** (dropped - 1) - 1 + even) & -(2 ** dropped);
  return scratch[0] <= 65504 ? scratch[0] : scale;
}

/** Least and greatest value, 0 among them; of equal size if symmetric; -1 and 1 where all are 0. */
function bounds(values: Float32Array, symmetric: boolean): readonly [low: number, high: number] {
  let low = 0;
  let high = 0;
  for (const each of values) {
    if (each < low) low = each;
    if (each > high) high = each;
  }
  if (low === 0 && high === 0) return [-1, 1];
  if (!symmetric) return [low, high];
  const size = Math.max(-low, high);
  return [-size, size];
}

const clamp = (code: number, top: number): number => Math.min(Math.max(code, 0), top);
