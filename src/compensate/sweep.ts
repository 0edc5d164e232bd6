/**
 * GPTQ where weights that share a scale lie together: when a part's turn comes, its scale and minimum are chosen for the
 * weights as earlier errors have left them, by the error that its codes would then leave. The search itself:
 * kernels/parts.ts.
 */

import type { FactorBlock } from './cholesky.ts';
import { overBlocks } from './columns.ts';
import type { Work } from './parts.ts';
import { scratchBytes } from './parts.ts';

/** Parts by their sum of the diagonal, columns in them by the diagonal; falling, equal ones in their order. */
export function byParts(gram: Float32Array, n: number, part: number): Int32Array {
  const weight = (column: number) => gram[column * n + column];
  const parts = Array.from({ length: n / part }, (_, p) => {
    const columns = Array.from({ length: part }, (_, i) => p * part + i);
    const sum = columns.reduce((total, column) => total + weight(column), 0);
    return { columns: columns.sort((a, b) => weight(b) - weight(a) || a - b), sum, p };
  });
  parts.sort((a, b) => b.sum - a.sum || a.p - b.p);
  return Int32Array.from(parts.flatMap(({ columns }) => columns));
}

/** Rounds all lines, block after block. */
export async function sweep(work: Work, blocks: readonly FactorBlock[]): Promise<void> {
  const { kernels, tiles, part, which, scales, minima, codes, state, form } = work;
  const { stride } = tiles;
  await overBlocks(work, blocks, state, stride, ({ start, count, inverse, pitch, current, origin }) => {
    const block = [current.at, origin.at, count, stride, inverse.at, pitch, part];
    const target = [which.at + (4 * start) / part, scales.at, minima.at, codes.at + start * stride];
    kernels.run('sweepParts', stride / 16, scratchBytes(part) + 64 * count, ...block, ...target, ...form);
  });
}
