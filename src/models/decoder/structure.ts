/** How the parts of a decoder's layer hang together, by its traits. */

import type { LayerPlan, LayerStructure, NormStructure } from '../model.ts';
import type { Decoder } from './block.ts';
import { partName } from './block.ts';

/** @param layer the layer's name */
export function structureOf(decoder: Decoder, layer: string, plan: LayerPlan): LayerStructure {
  const { names, parallel } = decoder;
  const attention = plan.heads > 0 ? attentionOf(decoder, layer, plan) : nothing;
  const mixer = plan.convolution ? convolutionOf(decoder, layer) : attention;
  const feedForward = plan.intermediate > 0 ? feedForwardOf(decoder, layer, plan) : nothing;
  const shared = parallel && names.feedForwardNorm === undefined;
  const norms = shared
    ? [normOf(decoder, layer, names.attentionNorm, [...mixer.readers, ...feedForward.readers])]
    : [
        normOf(decoder, layer, names.attentionNorm, mixer.readers),
        normOf(decoder, layer, names.feedForwardNorm, feedForward.readers),
      ];
  const matrices = ({ readers, writers }: Part) => [...readers, ...writers].map(({ matrix }) => matrix);
  return {
    norms: norms.flatMap((norm) => norm ?? []),
    writers: [...mixer.writers, ...feedForward.writers],
    passages: [...mixer.passages, ...feedForward.passages],
    attention: matrices(mixer),
    feedForward: matrices(feedForward),
    compared: attention.readers.slice(0, 2).map(({ matrix }) => matrix),
    mixture: feedForward.mixture,
  };
}

interface Part extends Pick<LayerStructure, 'writers' | 'passages' | 'mixture'> {
  /** What its input feeds. */
  readonly readers: NormStructure['readers'];
}

const nothing: Part = { readers: [], writers: [], passages: [] };

function normOf(
  { norm }: Decoder,
  layer: string,
  name: string | undefined,
  readers: NormStructure['readers'],
): NormStructure | undefined {
  if (name === undefined || readers.length === 0) return undefined;
  const stem = `${layer}.${name}`;
  return {
    weight: `${stem}.weight`,
    ...(norm.bias ? { bias: `${stem}.bias` } : {}),
    ...(norm.offset ? { offset: norm.offset } : {}),
    readers,
  };
}

const readerOf = (matrix: string, biased: boolean) => ({
  matrix,
  bias: biased ? `${matrix}.bias` : undefined,
});

/** A writer with the norm of what it gives. */
const writerOf = (matrix: string, biased: boolean, norm: string | undefined) => ({
  ...readerOf(matrix, biased),
  ...(norm === undefined ? {} : { norm: `${norm}.weight` }),
});

function attentionOf({ names, biases }: Decoder, layer: string, plan: LayerPlan): Part {
  const { heads, keyValueHeads, headSize } = plan;
  const [q, k, v] = [names.query, names.key, names.value].map((name) =>
    readerOf(`${layer}.${name}`, biases.queryKeyValue),
  );
  const after = names.attentionNormAfter && `${layer}.${names.attentionNormAfter}`;
  const output = writerOf(`${layer}.${names.output}`, biases.output, after);
  return {
    readers: [q, k, v],
    writers: [output],
    passages: [
      { from: v.matrix, bias: v.bias, to: output.matrix, heads: { heads, keyValueHeads, headSize } },
    ],
  };
}

function convolutionOf({ names, biases, traits }: Decoder, layer: string): Part {
  const { input, output } = traits.mixers!.convolution;
  const biased = biases.convolution === true;
  const after = names.attentionNormAfter && `${layer}.${names.attentionNormAfter}`;
  return {
    readers: [readerOf(`${layer}.${input}`, biased)],
    writers: [writerOf(`${layer}.${output}`, biased, after)],
    // A channel's scale passes through a third of the rows alone.
    passages: [],
  };
}

function feedForwardOf({ names, biases, traits }: Decoder, layer: string, { experts }: LayerPlan): Part {
  const stem = partName(layer, names.feedForward);
  const gated = traits.gated !== false;
  const after = names.feedForwardNormAfter && `${layer}.${names.feedForwardNormAfter}`;
  const each = Array.from({ length: experts?.count ?? 1 }, (_, expert) => {
    const of = (part: string) => `${experts ? `${stem}.experts.${expert}` : stem}.${part}`;
    const readers = [...(gated ? [names.gate] : []), names.up].map((part) =>
      readerOf(of(part), biases.feedForward),
    );
    return { readers, down: writerOf(of(names.down), biases.feedForward, after) };
  });
  const router = experts && `${stem}.${traits.mixtures!.router}`;
  return {
    readers: [
      ...(router === undefined ? [] : [{ matrix: router, bias: undefined }]),
      ...each.flatMap(({ readers }) => readers),
    ],
    writers: each.map(({ down }) => down),
    // A plain activation passes no scale.
    passages: gated
      ? each.map(({ readers: [, up], down }) => ({ from: up.matrix, bias: up.bias, to: down.matrix }))
      : [],
    mixture:
      router === undefined
        ? undefined
        : {
            router,
            experts: each.map(({ readers, down }) => [...readers, down].map(({ matrix }) => matrix)),
          },
  };
}
