/**
 * A matrix in work, for rounding to ggml's block types with errors compensated: lines are columns in the order in which
 * they are rounded, whole parts after each other. The kernels that work on it: kernels/parts.ts.
 */

import type { BlockType } from '../../encodings/blocks/index.ts';
import type { Area, Kernels } from '../../kernels/kernels.ts';
import type { Tools } from './gptq.ts';
import { inverted } from './gptq.ts';
import type { Tiles } from './tiles.ts';
import { rowMajor } from './tiles.ts';

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
  const { rows, columns, stride } = tiles;
  const { part, levels, size, bytes, numbers } = type;
  const { parameters } = type.unpack(fitted);
  const which = kernels.reserve((4 * columns) / part);
  const parts = kernels.ints(which);
  for (let index = 0; index < parts.length; index++) parts[index] = Math.floor(order[index * part] / part);
  const state = engine.reserve(columns * stride);
  const natural = kernels.floats(tiles.weights);
  order.forEach((column, line) => {
    state.set(natural.subarray(column * stride, (column + 1) * stride), line * stride);
  });
  const units = numbers ? readUnits(fitted, bytes, numbers.units) : [];
  const [unitsAt = 0, minimumUnitsAt = 0] = units.map((each) => transposed(kernels, each, rows, stride).at);
  const { least, most } = numbers ?? { least: 0, most: 0 };
  const range = [least, most, -levels[0], levels.length - 1];
  return {
    kernels,
    engine,
    tiles,
    order,
    part,
    which,
    scales: transposed(kernels, parameters.scales, rows, stride),
    minima: transposed(kernels, parameters.minima, rows, stride),
    codes: kernels.reserve(columns * stride),
    state,
    form: [unitsAt, minimumUnitsAt, size / part, ...range, Number(type.minima)],
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
