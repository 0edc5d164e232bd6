/**
 * Quantizing to the block types of ggml, which llama.cpp runs: as ggml itself does, without importance and with, or
 * with errors compensated. Then the scales are ggml's, fitted with importance, and codes are chosen as GPTQ does
 * (arXiv:2210.17323), columns with the largest inputs first. A minimum only shifts a part's grid: weights are moved by
 * it beforehand, which leaves every error as it is.
 */

import { z } from 'zod';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { LapidaryError } from '../../base/errors.ts';
import { stored } from '../../base/tensor.ts';
import type { BlockType } from '../../encodings/blocks/index.ts';
import { blockEncoding, blockTypeFor, blockTypes, quantizeTo } from '../../encodings/blocks/index.ts';
import { dense, retyped } from '../../encodings/dense.ts';
import type { LinearMethod, Matrix, Statistic } from '../contract.ts';
import { roundToGrids } from './gptq.ts';

const options = z.strictObject({
  type: z
    .enum([...blockTypes.byName.keys()] as [string, ...string[]])
    .default('Q4_K')
    .describe('Block type of ggml; where rows are no whole blocks, what llama.cpp takes instead.'),
  fit: z
    .enum(['plain', 'importance', 'compensated'])
    .default('compensated')
    .describe('As ggml does, as it does with importance, or with errors compensated by later columns.'),
  damping: z
    .number()
    .min(0)
    .max(1)
    .default(0.01)
    .describe('Share of the mean diagonal of the Gram matrix that is added to the diagonal.'),
});
export type BlocksOptions = z.infer<typeof options>;

/** Columns between two updates of all that follow. */
const blockSize = 128;
/** Stands for a scale of 0: every code then means next to nothing. */
const leastScale = 1e-30;

export const blocks: LinearMethod<BlocksOptions> = {
  shape: 'linear',
  name: 'blocks',
  summary: 'Block types of ggml, for llama.cpp: scales with importance, errors compensated as in GPTQ.',
  options,
  statistic: ({ fit }) => (({ plain: 'none', importance: 'norm', compensated: 'gram' }) as const)[fit],
  async compress(weight, statistic, { type: name, fit, damping }) {
    const { rows, columns, values } = weight;
    checkFiniteMatrix('weights', values, columns);
    const type = blockTypeFor(name, columns);
    if (!type) return dense(retyped(stored('float32', [rows, columns], values), 'float16'));
    if (fit === 'plain') return quantizeTo(type, weight);
    const importance = importanceOf(statistic, columns);
    // Levels that are not evenly spaced are not on a grid.
    if (fit === 'importance' || !isGrid(type)) return quantizeTo(type, weight, importance);
    const { gram } = statistic;
    if (!gram) throw new LapidaryError({ what: 'compensating errors needs the Gram matrix of the inputs' });
    const bytes = await compensated(type, weight, gram, importance, damping);
    return blockEncoding(type, [rows, columns], stored('uint8', [rows, bytes.length / rows], bytes));
  },
};

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

const isGrid = ({ levels }: BlockType): boolean => levels.every((level, code) => level === levels[0] + code);

/** Mean of the squared inputs. */
function importanceOf({ squares, tokens }: Statistic, columns: number): Float32Array {
  if (!squares) throw new LapidaryError({ what: 'importance needs the norms of the inputs' });
  if (squares.length !== columns) {
    const found = `${squares.length} norms for ${columns} columns`;
    throw new LapidaryError({ what: 'the norms of the inputs do not fit the weight', found });
  }
  return squares.map((square) => square / Math.max(1, tokens));
}
