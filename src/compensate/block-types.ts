/**
 * Codes of ggml's block types with errors compensated, as GPTQ does (arXiv:2210.17323). Weights that share a scale and
 * a minimum stay together: parts with the largest inputs come first. When a part's turn comes, its scale and minimum
 * are chosen for the weights as earlier errors have left them, by the error that its codes would then leave; ggml's,
 * fitted with importance, are where that search begins, and the units of super-blocks stay ggml's. At the end all parts
 * are gone over again (coordinate-descent.ts).
 */

import { defaultThreads } from '../base/threads.ts';
import type { BlockType } from '../encodings/blocks/index.ts';
import type { Matrix } from '../contract/statistic.ts';
import { descend } from './coordinate-descent.ts';
import { damp } from './cholesky.ts';
import { factorizeDamped, withTools } from './columns.ts';
import { begin, collectBlocks } from './parts.ts';
import { byParts, sweep } from './sweep.ts';
import { toTiles } from '../rounding/tiles.ts';

/** Columns between two updates of all that follow; at least a part. */
const blockSize = 128;
/** Times that all parts are gone over again. */
const passes = 2;

/**
 * @param type one whose levels are evenly spaced
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param importance of columns, for the scales that the search begins with
 * @param damping share of the mean diagonal that is added to the diagonal
 * @param threads see `withKernels`; the result does not depend on it
 * @returns blocks of the type, row after row
 * @throws LapidaryError where the Gram matrix is none
 */
export async function compensated(
  type: BlockType,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  importance: Float32Array,
  damping: number,
  threads = defaultThreads(),
): Promise<Uint8Array> {
  const fitted = await type.quantizeFast(values, columns, importance, threads);
  return withTools(threads, async (tools) => {
    const mean = damp(gram, columns, damping);
    const size = Math.max(blockSize, type.part);
    const order = byParts(gram, columns, type.part);
    const tiles = toTiles(tools.kernels, values, rows, columns);
    const blocks = await factorizeDamped(tools, gram, mean, { damping, size, order });
    const work = begin(tools, type, fitted, tiles, order);
    await sweep(work, blocks);
    for (let pass = 0; pass < passes; pass++) await descend(work, gram, size);
    return collectBlocks(work, type, fitted);
  });
}
