/** What a model's layers look like to those who learn rotations: weights, and moments of what they are fed. */

import { collect, fedBy, hiddenOf } from '../../calibrate/streams.ts';
import { forward } from '../../models/hidden.ts';
import type { Tensor } from '../../graph/session.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { LayerStructure, Model } from '../../models/model.ts';
import type { Runner } from '../../models/runner.ts';
import { openRunner } from '../../models/runner.ts';
import type { Random } from '../../base/random.ts';
import { pickedRows } from '../../base/rows.ts';
import type { RewriteContext } from '../../contract/method.ts';
import type { Statistic, StatisticKind } from '../../contract/statistic.ts';

/** A matrix that reads the residual stream. */
export interface Reader {
  readonly matrix: Encoding;
  /** Whether its outputs are values of heads, which are turned too. */
  readonly ofHeads: boolean;
}

/** What norms give, and who reads it. */
export interface ReadSite {
  readonly readers: readonly Reader[];
  /** Mean of x x^T over all tokens, [hidden, hidden]. */
  readonly moments: Float32Array;
  /** Some tokens' x, [samples, hidden]. */
  readonly samples: Float32Array;
}

/** A matrix that writes to the residual stream. */
export interface WriteSite {
  readonly matrix: Encoding;
  /** Means over all tokens: of x x^T by head where it reads heads [heads, headSize, headSize], else of x^2 [in]. */
  readonly moments: Float32Array;
  readonly ofHeads: boolean;
}

export interface LayerSites {
  readonly headSize: number;
  readonly reads: readonly ReadSite[];
  readonly writes: readonly WriteSite[];
}

/** Tokens of the first batch that samples are drawn from are those that one run takes. */
export async function sitesOf(
  folded: Model,
  { sequences, session, progress, signal }: RewriteContext,
  { samples, random }: { readonly samples: number; readonly random: Random },
): Promise<LayerSites[]> {
  const runner = openRunner(folded, { ...session, longest: sequences[0].length });
  try {
    const hidden = await hiddenOf(runner, sequences, undefined, signal);
    const sites: LayerSites[] = [];
    const { layers } = folded.config;
    for (let layer = 0; layer < layers.length; layer++) {
      sites.push(await layerSites(runner, layer, hidden, { samples, random, signal }));
      if (layer + 1 < layers.length) await forward(await runner.block(layer), hidden, signal);
      progress?.({ phase: 'look at inputs', done: layer + 1, total: layers.length });
    }
    return sites;
  } finally {
    await runner.release();
  }
}

interface Drawing {
  readonly samples: number;
  readonly random: Random;
  readonly signal: AbortSignal | undefined;
}

async function layerSites(
  runner: Runner,
  layer: number,
  hidden: readonly Tensor[],
  drawing: Drawing,
): Promise<LayerSites> {
  const { architecture, config, matrices } = runner.model;
  const { heads, headSize } = config.layers[layer];
  const structure = architecture.structure(config, layer);
  const through = structure.passages.filter((passage) => passage.heads);
  const needs = needsOf(structure);
  const fed = fedBy(hidden, { open: (part) => runner.block(layer, part) });
  const statistics = await collect(needs, fed, undefined, drawing);
  const inputs = await inputsOf(runner, layer, hidden[0], structure);
  const rows = rowsOf(inputs[0].length / config.hidden, drawing);
  return {
    headSize,
    reads: structure.norms.map(({ readers }, index) => ({
      readers: readers.map(({ matrix }) => ({
        matrix: matrices.get(matrix)!,
        ofHeads: through.some(({ from }) => from === matrix),
      })),
      moments: means(statistics.get(readers[0].matrix)!, 'gram'),
      samples: pickedRows(inputs[index], config.hidden, rows),
    })),
    writes: structure.writers.map(({ matrix }) => {
      const ofHeads = through.some(({ to }) => to === matrix);
      const statistic = statistics.get(matrix)!;
      const moments = ofHeads
        ? blocks(means(statistic, 'gram'), heads, headSize)
        : means(statistic, 'squares');
      return { matrix: matrices.get(matrix)!, moments, ofHeads };
    }),
  };
}

function needsOf({ norms, writers, passages }: LayerStructure): Map<string, StatisticKind> {
  const byHeads = new Set(passages.flatMap(({ heads, to }) => (heads ? [to] : [])));
  return new Map<string, StatisticKind>([
    ...norms.map(({ readers }) => [readers[0].matrix, 'gram'] as const),
    ...writers.map(({ matrix }) => [matrix, byHeads.has(matrix) ? 'gram' : 'norm'] as const),
  ]);
}

/** What each norm gives for one batch, [tokens, hidden]. */
async function inputsOf(runner: Runner, layer: number, x: Tensor, { norms }: LayerStructure) {
  const stage = await runner.block(layer, {
    extensionOnly: true,
    extend: ({ graph, scope }) => {
      for (const [index, { readers }] of norms.entries()) {
        graph.output(`norm.${index}`, scope.linears.get(readers[0].matrix)!.input);
      }
    },
  });
  const outputs = await stage.run({ x });
  await stage.release();
  return norms.map((_, index) => outputs[`norm.${index}`].data as Float32Array);
}

function rowsOf(count: number, { samples, random }: Drawing): number[] {
  return Array.from({ length: samples }, () => random.integer(count));
}

const means = (statistic: Statistic, part: 'gram' | 'squares'): Float32Array =>
  statistic[part]!.map((value) => value / statistic.tokens);

/** The blocks on a matrix's diagonal, one for each head. */
function blocks(gram: Float32Array, heads: number, size: number): Float32Array {
  const columns = heads * size;
  return Float32Array.from({ length: heads * size * size }, (_, i) => {
    const [head, row, column] = [Math.floor(i / size ** 2), Math.floor(i / size) % size, i % size];
    return gram[(head * size + row) * columns + head * size + column];
  });
}
