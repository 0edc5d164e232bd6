/**
 * Codes of ggml's block types with errors compensated: the scales are ggml's, fitted with importance, and codes are
 * chosen as GPTQ does (arXiv:2210.17323), columns with the largest inputs first. A minimum only shifts a part's grid:
 * weights are moved by it beforehand, which leaves every error as it is.
 */

import type { BlockType } from '../../encodings/blocks/index.ts';
import type { Matrix } from '../contract.ts';
import { roundToGrids } from './gptq.ts';

/** Columns between two updates of all that follow. */
const blockSize = 128;
/** Stands for a scale of 0: every code then means next to nothing. */
const leastScale = 1e-30;

/**
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param importance of columns, for the scales
 * @param threads see `withKernels`; the result does not depend on it
 * @returns blocks of the type, row after row
 */
export async function compensated(
  type: BlockType,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  importance: Float32Array,
  damping: number,
  threads?: number,
): Promise<Uint8Array> {
  const { part, levels } = type;
  const fitted = await type.quantizeFast(values, columns, importance, threads);
  const { parameters } = type.unpack(fitted);
  const moved = new Float32Array(values.length);
  for (let p = 0, i = 0; p < parameters.minima.length; p++) {
    for (const end = i + part; i < end; i++) moved[i] = values[i] + parameters.minima[p];
  }
  const grids = {
    length: part,
    top: levels.length - 1,
    scales: parameters.scales.map((scale) => scale || leastScale),
    zero: -levels[0],
  };
  const codes = await roundToGrids(
    { rows, columns, values: moved },
    gram,
    grids,
    { damping, blockSize },
    threads,
  );
  return type.pack(codes, parameters);
}
