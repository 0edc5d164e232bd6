/**
 * Quantizing to the block types of ggml, which llama.cpp runs, in its mixes of them: as ggml itself does, without
 * importance and with, or with errors compensated.
 */

import { z } from 'zod';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { LapidaryError } from '../../base/errors.ts';
import { stored } from '../../base/tensor.ts';
import type { BlockType } from '../../encodings/blocks/index.ts';
import { blockEncoding, blockTypeFor, blockTypes, quantizeTo } from '../../encodings/blocks/index.ts';
import { dense, retyped } from '../../encodings/dense.ts';
import { ggufFileTypes, typeInMix } from '../../models/gguf-mixes.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import type { Statistic } from '../../contract/statistic.ts';
import { compensated } from '../../compensate/block-types.ts';
import { correctedWeight } from '../../compensate/asymmetric.ts';
import { compensation, damping } from '../../rounding/options.ts';

const options = z.strictObject({
  type: z
    .enum([...new Set([...Object.keys(ggufFileTypes), ...blockTypes.byName.keys()])] as [string, ...string[]])
    .default('Q4_K_M')
    .describe('File type of llama.cpp, which mixes block types, or one block type for all.'),
  pure: z.boolean().default(false).describe('One block type for all matrices where a file type would mix.'),
  fit: z
    .enum(['plain', 'importance', 'compensated'])
    .default('compensated')
    .describe('As ggml does, as it does with importance, or with errors compensated by later columns.'),
  damping: damping.default(0.1),
  ...compensation,
});
export type GgmlOptions = z.infer<typeof options>;

export const ggml: LinearMethod<GgmlOptions> & Named<'ggml', typeof options> = {
  shape: 'linear',
  name: 'ggml',
  summary: 'Block types of ggml, for llama.cpp: scales with importance, errors compensated as in GPTQ.',
  options,
  statistic: ({ fit, asymmetric }) =>
    (({ plain: 'none', importance: 'squares', compensated: asymmetric > 0 ? 'cross' : 'gram' }) as const)[
      fit
    ],
  bySquares: { fit: 'importance' },
  fisher: ({ fit, fisher }) => (fit === 'plain' ? 0 : fisher),
  compared: ({ compared }) => compared,
  sequential: ({ fit, sequential }) => sequential && fit !== 'plain',
  at(options, name, config) {
    if (options.pure || !(options.type in ggufFileTypes)) return options;
    return { ...options, type: typeInMix(options.type, name, config, options.fit !== 'plain'), pure: true };
  },
  async compress(weight, statistic, { type: name, fit, damping, asymmetric }) {
    const { rows, columns, values } = weight;
    checkFiniteMatrix('weights', values, columns);
    // Where rows are no whole blocks, what llama.cpp takes instead.
    const type = blockTypeFor(ggufFileTypes[name]?.type ?? name, columns);
    if (!type) return dense(retyped(stored('float32', [rows, columns], values), 'float16'));
    if (fit === 'plain') return quantizeTo(type, weight);
    const importance = importanceOf(statistic, columns);
    // Levels that are not evenly spaced are not on a grid.
    if (fit === 'importance' || !isGrid(type)) return quantizeTo(type, weight, importance);
    const { gram, cross, comparedGram } = statistic;
    if (!gram) throw new LapidaryError({ what: 'compensating errors needs the Gram matrix of the inputs' });
    const target = cross
      ? await correctedWeight(weight, comparedGram ?? gram, cross, { asymmetric, damping })
      : weight;
    const bytes = await compensated(type, target, gram, importance, damping);
    return blockEncoding(type, [rows, columns], stored('uint8', [rows, bytes.length / rows], bytes));
  },
  plain: (weight, options) => ggml.compress(weight, { tokens: 0 }, { ...options, fit: 'plain' }),
};

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
