/**
 * Rounding to number formats (NF4, FP4, microscaling, FP8, ternary): every weight takes the nearest value. Any table of
 * values will do: rounding and format are chosen apart.
 */

import { checkFiniteMatrix } from '../base/finite.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { RangeRule, ScaleType } from '../encodings/grid.ts';
import type { GroupSize } from '../encodings/grouped.ts';
import { groupsOf } from '../encodings/grouped.ts';
import { fitScale, largest } from '../encodings/levels/grid.ts';
import type { NumberFormat } from '../encodings/levels/numbers.ts';
import { globalFactor, numberFormat } from '../encodings/levels/numbers.ts';
import type { LevelGroup, NumberName } from '../encodings/levels.ts';
import { levelPacking, levelsPacked } from '../encodings/levels.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import { withKernels } from '../kernels/kernels.ts';
import type { Matrix } from '../contract/statistic.ts';
import type { Tiles } from './tiles.ts';
import { collect, groupLength, toTiles } from './tiles.ts';

export interface LevelChoice {
  readonly numbers: NumberName;
  /** The format's own where it has one, and where this is not given. */
  readonly group?: LevelGroup | undefined;
  readonly range: RangeRule;
  /** Of scales that the format stores as floats. */
  readonly scales?: ScaleType | undefined;
}

/** Weights that are in the kernels' memory at once: rows are independent, and embeddings are large. */
const mostWeights = 2 ** 22;
/** As the kernel `fitLevels` has them. */
const forms = { float32: 0, float16: 1, e8m0: 2, e4m3: 3 } as const;

/** A choice made for one matrix. */
export interface LevelWork {
  readonly numbers: NumberName;
  readonly format: NumberFormat;
  readonly group: LevelGroup;
  /** As the kernels see it: a scale for the whole matrix is one for every row. */
  readonly spans: GroupSize;
  readonly range: RangeRule;
  readonly floats: 'float16' | 'float32';
  readonly factor: number;
  /** Of the whole matrix, where it has but one. */
  readonly whole?: number | undefined;
}

export function levelWork({ values }: Matrix, choice: LevelChoice): LevelWork {
  const format = numberFormat(choice.numbers);
  const group = format.ownGroup ? format.group : (choice.group ?? format.group);
  const floats: LevelWork['floats'] = choice.scales === 'float32' ? 'float32' : 'float16';
  const factor = format.scale === 'e4m3' ? globalFactor(largest(values)) : 1;
  const scale = { range: choice.range, floats, factor };
  const one = group === 'tensor';
  const whole = one ? fitScale(format, values, scale) : undefined;
  const spans = (one ? -1 : group) as GroupSize;
  return { numbers: choice.numbers, format, group, spans, ...scale, whole };
}

/**
 * Every weight takes the nearest value of its group's scale.
 * @param threads see `withKernels`; the result does not depend on it
 * @throws LapidaryError on weights that are not finite
 */
export async function roundToLevels(
  weight: Matrix,
  choice: LevelChoice,
  threads?: number,
): Promise<Encoding> {
  const { rows, columns, values } = weight;
  checkFiniteMatrix('weights', values, columns);
  const work = levelWork(weight, choice);
  const atOnce = Math.max(16, Math.floor(mostWeights / columns / 16) * 16);
  const groups = groupsOf({ columns, group: work.spans });
  const { rowBytes } = levelPacking({ numbers: work.numbers, columns, group: work.group });
  const packed = new Uint8Array(rows * rowBytes);
  const scales = new Float32Array(rows * groups);
  for (let row = 0; row < rows; row += atOnce) {
    const count = Math.min(atOnce, rows - row);
    const part = values.subarray(row * columns, (row + count) * columns);
    const found = await withKernels((kernels) => {
      const tiles = toTiles(kernels, part, count, columns);
      const { stride, weights } = tiles;
      const length = groupLength({ group: work.spans }, columns);
      const table = putTable(kernels, work);
      const areas = reserveScales(kernels, groups, stride);
      fitLevels(kernels, { at: weights.at, columns, stride }, work, table, areas);
      const codes = kernels.reserve(columns * stride);
      const inputs = [weights.at, columns, stride, length, areas.at, table.at, work.format.table.size];
      kernels.run('roundLevels', stride / 16, 0, ...inputs, codes.at);
      return gatherLevels(kernels, tiles, work, codes, areas);
    }, threads);
    packed.set(found.packed, row * rowBytes);
    scales.set(found.scales, row * groups);
  }
  return encodedLevels(weight, work, { packed, scales });
}

/** The table as the kernels read it. */
export function putTable(kernels: Kernels, { format: { table, shares } }: LevelWork): Area {
  const area = kernels.reserve(9 * table.size + 64 + shares.byteLength);
  const bytes = kernels.bytes(area);
  const raw = ({ buffer, byteOffset, byteLength }: Float32Array | Uint8Array) =>
    new Uint8Array(buffer, byteOffset, byteLength);
  bytes.set(raw(table.levels));
  bytes.set(raw(table.thresholds), 4 * table.size);
  bytes.set(table.codes, 8 * table.size);
  bytes.set(raw(shares), sharesAt(table.size));
  return area;
}

/** Where the shares of the search begin, behind the table. */
const sharesAt = (size: number): number => Math.ceil((9 * size) / 4) * 4;

export const reserveScales = (kernels: Kernels, groups: number, stride: number): Area =>
  kernels.reserve(groups * stride * 4);

/** Fits every group of `columns` columns at `at` [columns, stride], into the scales from group `first` on. */
export function fitLevels(
  kernels: Kernels,
  { at, columns, stride }: { readonly at: number; readonly columns: number; readonly stride: number },
  { format, spans, range, floats, factor, whole }: LevelWork,
  table: Area,
  scales: Area,
  first = 0,
): void {
  if (whole !== undefined) {
    kernels.floats(scales).fill(whole);
    return;
  }
  const length = groupLength({ group: spans }, columns);
  const { size } = format.table;
  const tries = range === 'mse' ? format.shares.length : 1;
  const form = forms[format.scale === 'float' ? floats : format.scale];
  const items = (Math.ceil(columns / length) * stride) / 16;
  const search = [table.at, size, table.at + sharesAt(size), tries];
  const rule = [Number(format.statistic === 'mean'), format.divisor, form, factor];
  const target = scales.at + first * stride * 4;
  kernels.run('fitLevels', items, 64 * length, at, columns, stride, length, target, ...search, ...rule);
}

export interface LevelCodes {
  readonly packed: Uint8Array;
  readonly scales: Float32Array;
}

/** Packed codes and scales [rows, groups], copied out of the shared memory. */
export function gatherLevels(
  kernels: Kernels,
  tiles: Tiles,
  { format: { bits }, spans }: LevelWork,
  codes: Area,
  scales: Area,
  lines?: Area,
): LevelCodes {
  const grid = { bits, group: spans, symmetric: true, range: 'minmax', scales: 'float32' } as const;
  return collect(kernels, tiles, grid, codes, { scales, zeros: scales }, lines);
}

export function encodedLevels(
  { rows, columns }: Matrix,
  { numbers, format, group, factor }: LevelWork,
  found: LevelCodes,
): Encoding {
  const scales = group === 'tensor' ? found.scales.slice(0, 1) : found.scales;
  const global = format.scale === 'e4m3' ? factor : undefined;
  return levelsPacked({ numbers, rows, columns, group, packed: found.packed, scales, global });
}
