/**
 * Number formats that weights are rounded to, one row each: which values the codes stand for, and what a scale is. A
 * weight is value(code) * scale. Methods choose codes for any of them, so rounding and format are chosen apart.
 */

import { halfCode, halfValue } from '../../base/half.ts';
import type { Width } from '../pack.ts';
import { e2m1, e4m3, e5m2, e8m0 } from './minifloat.ts';
import type { LevelTable } from './table.ts';
import { levelTable, nearestLevel } from './table.ts';

/** Weights along a row that share a scale; -1: the whole row, "tensor": all of a matrix. */
export type LevelGroup = number | 'tensor';

/** How scales are stored: as floats, as a power of two, or as E4M3 under one float32 factor for the matrix. */
export type ScaleForm = 'float' | 'e8m0' | 'e4m3';

export interface NumberFormat {
  /** Bits that a code is stored in. */
  readonly bits: Width;
  /** By code; NaN where a code stands for nothing. */
  readonly values: Float32Array;
  readonly table: LevelTable;
  /** Values are code - 2^(bits - 1), which engines multiply as they are. */
  readonly integers: boolean;
  /** Values times 2 are whole numbers of eight bits. */
  readonly halves: boolean;
  /** The group where none is asked for; the only one where `ownGroup`. */
  readonly group: LevelGroup;
  readonly ownGroup: boolean;
  readonly scale: ScaleForm;
  /** The plain scale is the largest or the mean size of a group, divided by `divisor`. */
  readonly statistic: 'largest' | 'mean';
  readonly divisor: number;
  /** Multiples of the plain scale that a search for the least squared error tries; the first is 1. */
  readonly shares: Float32Array;
}

/**
 * Quantiles of a normal distribution, 0 among them, with 1 for the largest (Dettmers et al. 2023, QLoRA, appendix E).
 */
const nf4 = Float32Array.of(
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
);

/** From `first` down to `last` in even steps, after 1. */
const shares = (first: number, last: number, count: number): Float32Array =>
  Float32Array.from({ length: count + 1 }, (_, i) =>
    i === 0 ? 1 : first + ((last - first) * (i - 1)) / (count - 1),
  );

type Row = Omit<NumberFormat, 'table' | 'integers' | 'halves' | 'ownGroup' | 'statistic'> &
  Partial<Pick<NumberFormat, 'integers' | 'ownGroup' | 'statistic'>>;

const rows = {
  nf4: { bits: 4, values: nf4, group: 64, scale: 'float', divisor: 1, shares: shares(1.5, 0.7, 20) },
  /** E2M1 with floats for scales. */
  fp4: { bits: 4, values: e2m1, group: 32, scale: 'float', divisor: 6, shares: shares(1.5, 0.7, 20) },
  /** OCP Microscaling: the scale is 2^(floor(log2 largest) - largest exponent), so that the largest may be cut off. */
  mxfp4: {
    bits: 4,
    values: e2m1,
    group: 32,
    ownGroup: true,
    scale: 'e8m0',
    divisor: 4,
    shares: Float32Array.of(1, 2, 0.5),
  },
  mxfp8: {
    bits: 8,
    values: e4m3,
    group: 32,
    ownGroup: true,
    scale: 'e8m0',
    divisor: 256,
    shares: Float32Array.of(1, 2, 0.5),
  },
  nvfp4: {
    bits: 4,
    values: e2m1,
    group: 16,
    ownGroup: true,
    scale: 'e4m3',
    divisor: 6,
    shares: shares(1.5, 0.7, 20),
  },
  'fp8-e4m3': {
    bits: 8,
    values: e4m3,
    group: -1,
    scale: 'float',
    divisor: 448,
    shares: shares(0.95, 0.5, 8),
  },
  'fp8-e5m2': {
    bits: 8,
    values: e5m2,
    group: -1,
    scale: 'float',
    divisor: 57344,
    shares: shares(0.95, 0.5, 8),
  },
  /** -1, 0 and 1 times the mean size (Ma et al. 2024, BitNet b1.58, equation 2). */
  ternary: {
    bits: 2,
    values: Float32Array.of(Number.NaN, -1, 0, 1),
    integers: true,
    group: 64,
    scale: 'float',
    statistic: 'mean',
    divisor: 1,
    shares: shares(2.4, 0.9, 16),
  },
} as const satisfies Record<string, Row>;

const isHalf = (value: number): boolean => Number.isInteger(2 * value) && Math.abs(2 * value) <= 127;

export type NumberName = keyof typeof rows;
export const numberNames = Object.keys(rows) as readonly NumberName[];

export const numberFormats: ReadonlyMap<string, NumberFormat> = new Map(
  Object.entries(rows as Record<string, Row>).map(([name, row]) => [
    name,
    {
      integers: false,
      ownGroup: false,
      statistic: 'largest',
      ...row,
      halves: row.values.every((value) => Number.isNaN(value) || isHalf(value)),
      table: levelTable(row.values),
    },
  ]),
);

/** The format of a name that is one. */
export const numberFormat = (name: NumberName): NumberFormat => numberFormats.get(name)!;

/** Weights of a matrix are value * scale code / factor: the largest scale code is then 448, its values reach 6. */
export const globalFactor = (largest: number): number => (largest > 0 ? Math.fround((448 * 6) / largest) : 1);

const positiveE4m3 = levelTable(e4m3.map((value) => (value >= 0 ? value : Number.NaN)));

/** The code that a scale is stored as, the least one that is not 0. @param factor of E4M3 scales */
export function scaleCode(form: 'e8m0' | 'e4m3', scale: number, factor: number): number {
  if (form === 'e8m0') return Math.min(Math.max(Math.floor(Math.log2(scale)) + 127, 1), 254);
  return Math.max(positiveE4m3.codes[nearestLevel(positiveE4m3, Math.fround(scale * factor))], 1);
}

/** What a stored scale is worth. */
export const scaleValue = (form: 'e8m0' | 'e4m3', code: number, factor: number): number =>
  form === 'e8m0' ? e8m0[code] : Math.fround(e4m3[code] / factor);

/** The scale as it will be stored. @param floats the type that floats are stored in */
export function storedScale(
  form: ScaleForm,
  scale: number,
  { floats, factor }: { readonly floats: 'float16' | 'float32'; readonly factor: number },
): number {
  if (form !== 'float') return scaleValue(form, scaleCode(form, scale, factor), factor);
  const half = halfValue(halfCode(scale));
  return floats === 'float16' && half >= 2 ** -14 && half <= 65504 ? half : Math.fround(scale);
}
