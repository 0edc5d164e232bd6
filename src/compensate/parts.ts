/**
 * A matrix in work, for rounding with errors compensated and scales chosen on the way, to ggml's block types or to
 * integer groups: lines are columns in the order in which they are rounded, whole parts after each other. The kernels
 * that work on it: kernels/parts.ts.
 */

import type { BlockType } from '../encodings/blocks/index.ts';
import type { PackedCodes } from '../encodings/grouped.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import type { Tools } from './columns.ts';
import { inOrder, inverted } from './columns.ts';
import type { GridChoice, Parameters, Tiles } from '../rounding/tiles.ts';
import { collect, rowMajor } from '../rounding/tiles.ts';

export interface Work extends Tools {
  readonly tiles: Tiles;
  /** The column of each line. */
  readonly order: Int32Array;
  /** Lines of a part. */
  readonly part: number;
  /** The parts in their order, int32: rows of `scales` and `minima`. */
  readonly which: Area;
  /** Float32 [parts, stride], in the order of the columns. */
  readonly scales: Area;
  readonly minima: Area;
  /** Uint8 [lines, stride]. */
  readonly codes: Area;
  /** Float32 [lines, stride]: weights that are not rounded yet; after that, weights less what stands for them. */
  readonly state: Float32Array;
  /** What the type can hold, as the kernels are told. */
  readonly form: readonly number[];
}

/** @param fitted blocks whose scales and minima are where the search begins, and whose units stay */
export function begin(
  { kernels, engine }: Tools,
  type: BlockType,
  fitted: Uint8Array,
  tiles: Tiles,
  order: Int32Array,
): Work {
  const { rows, stride } = tiles;
  const { part, levels, size, bytes, numbers } = type;
  const { parameters } = type.unpack(fitted);
  const units = numbers ? readUnits(fitted, bytes, numbers.units) : [];
  const [unitsAt = 0, minimumUnitsAt = 0] = units.map((each) => transposed(kernels, each, rows, stride).at);
  const { least, most } = numbers ?? { least: 0, most: 0 };
  const range = [least, most, -levels[0], levels.length - 1];
  return {
    kernels,
    engine,
    scales: transposed(kernels, parameters.scales, rows, stride),
    minima: transposed(kernels, parameters.minima, rows, stride),
    form: [unitsAt, minimumUnitsAt, size / part, ...range, Number(type.minima)],
    ...linesOf({ kernels, engine }, tiles, part, order),
  };
}

type ReadUnits = NonNullable<BlockType['numbers']>['units'];

/** Of every block. */
function readUnits(blocks: Uint8Array, bytes: number, read: ReadUnits): readonly Float32Array[] {
  const count = blocks.length / bytes;
  const [scales, minima] = [new Float32Array(count), new Float32Array(count)];
  for (let b = 0; b < count; b++) {
    [scales[b], minima[b]] = read(blocks.subarray(b * bytes, (b + 1) * bytes));
  }
  return [scales, minima];
}

/**
 * Codes of integer groups in work: scales are float16, zero points codes.
 * @param tiles with whole groups along a row
 * @param parameters fitted, in the order of the columns, where the search begins; zero points become minima
 */
export function beginGroups(
  { kernels, engine }: Tools,
  tiles: Tiles,
  { bits, group: part, symmetric }: GridChoice,
  { scales, zeros }: Parameters,
  order: Int32Array,
): Work {
  const minima = kernels.floats(zeros);
  const sizes = kernels.floats(scales);
  for (let i = 0; i < minima.length; i++) minima[i] = symmetric ? 0 : minima[i] * sizes[i];
  const form = [0, 0, 1, 0, 0, symmetric ? 2 ** (bits - 1) : 0, 2 ** bits - 1, symmetric ? 0 : 2];
  return {
    kernels,
    engine,
    scales,
    minima: zeros,
    form,
    ...linesOf({ kernels, engine }, tiles, part, order),
  };
}

/** The codes, and zero points in place of minima. */
export function collectGroups(work: Work, choice: GridChoice): PackedCodes {
  const { kernels, tiles, scales, minima, codes, order } = work;
  const zeros = kernels.floats(minima);
  const sizes = kernels.floats(scales);
  for (let i = 0; i < zeros.length; i++) zeros[i] = sizes[i] === 0 ? 0 : Math.round(zeros[i] / sizes[i]);
  return collect(kernels, tiles, choice, codes, { scales, zeros: minima }, inverted(kernels, order));
}

/** Weights in the order in which they are rounded, and which part each line is of. */
function linesOf(
  tools: Tools,
  tiles: Tiles,
  part: number,
  order: Int32Array,
): Pick<Work, 'tiles' | 'part' | 'order' | 'which' | 'codes' | 'state'> {
  const { kernels } = tools;
  const { columns, stride } = tiles;
  const which = kernels.reserve((4 * columns) / part);
  const parts = kernels.ints(which);
  for (let index = 0; index < parts.length; index++) parts[index] = Math.floor(order[index * part] / part);
  const state = inOrder(tools, tiles, order);
  return { tiles, part, order, which, codes: kernels.reserve(columns * stride), state };
}

/** [rows, count] into [count, stride]; rows that fill up the last tile are 0. */
function transposed(kernels: Kernels, values: Float32Array, rows: number, stride: number): Area {
  const count = values.length / rows;
  const area = kernels.reserve(4 * count * stride);
  const target = kernels.floats(area).fill(0);
  for (let row = 0; row < rows; row++) {
    for (let index = 0; index < count; index++) target[index * stride + row] = values[row * count + index];
  }
  return area;
}

/** Bytes of scratch that a thread needs for a part; see `layOut` in kernels/parts.ts. */
export const scratchBytes = (part: number): number => 64 * (7 * part + 8);

/** @returns the blocks, row after row, with the units that they had */
export function collectBlocks(
  { kernels, tiles, order, codes, scales, minima }: Work,
  type: BlockType,
  blocks: Uint8Array,
): Uint8Array {
  const { rows, columns, stride } = tiles;
  const target = kernels.reserve(rows * columns);
  const sizes = [columns, stride, rows, target.at, columns, 8, 0, 0];
  kernels.run('pack', stride / 16, 16, codes.at, inverted(kernels, order).at, ...sizes);
  const [s, m] = [scales, minima].map((area) =>
    rowMajor(kernels.floats(area), new Float32Array((rows * columns) / type.part), rows, stride),
  );
  return type.assemble(kernels.bytes(target), { blocks, scales: s, minima: m });
}
