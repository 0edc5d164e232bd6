/** The graph of a decoder's parts, by its traits. */

import type { Value } from '../../graph/graph.ts';
import { add, gelu, layerNorm, mul, relu, reshape, rmsNorm, scalar, scale, silu } from '../../graph/ops.ts';
import { mixture } from '../experts.ts';
import type { Scope } from '../model.ts';
import { shortConvolution } from './convolution.ts';
import type { Activation, Biases, DecoderTraits, Names, NormTraits } from './traits.ts';

/** Traits with the model's own settings read. */
export interface Decoder {
  readonly names: Names;
  readonly norm: NormTraits;
  readonly biases: Biases;
  readonly activation: Activation;
  readonly parallel: boolean;
  readonly residual: number;
  readonly traits: DecoderTraits;
}

/** x and what attention and feed-forward add to it. */
export function block(scope: Scope, decoder: Decoder, x: Value, layer: number): Value {
  const { names, parallel } = decoder;
  const { heads, convolution, intermediate } = scope.config.layers[layer];
  const own = (name: string | undefined) =>
    name === undefined ? undefined : `${names.layers}.${layer}.${name}`;
  const normed = (value: Value, name: string | undefined) =>
    name === undefined ? value : norm(scope, decoder, value, own(name)!);
  const added = (to: Value, value: Value, after: string | undefined) =>
    add(to, factored(normed(value, after), decoder.residual));

  const shared = parallel && names.feedForwardNorm === undefined;
  const mixes = heads > 0 || convolution !== undefined;
  const before = mixes || (shared && intermediate > 0) ? normed(x, names.attentionNorm) : x;
  let hidden = x;
  if (mixes) {
    const mix = convolution ? convolved : attention;
    hidden = added(hidden, mix(scope, decoder, before, layer), names.attentionNormAfter);
  }
  if (intermediate === 0) return hidden;
  const input = shared ? before : normed(parallel ? x : hidden, names.feedForwardNorm);
  return added(hidden, feedForwards(scope, decoder, input, layer), names.feedForwardNormAfter);
}

export const factored = (x: Value, factor: number): Value => (factor === 1 ? x : scale(x, factor));

/** Over the last axis. */
export function norm(scope: Scope, { norm: traits }: Pick<Decoder, 'norm'>, x: Value, name: string): Value {
  const size = x.shape.at(-1) as number;
  const stored = scope.vector(`${name}.weight`, size);
  const weight = traits.offset ? add(stored, scalar(stored.graph, traits.offset, stored.dtype)) : stored;
  if (traits.kind === 'rms') return rmsNorm(x, weight, scope.config.normEpsilon);
  const bias = traits.bias ? scope.vector(`${name}.bias`, size) : undefined;
  return layerNorm(x, weight, bias, scope.config.normEpsilon);
}

function attention(scope: Scope, decoder: Decoder, x: Value, layer: number): Value {
  const { names, biases, traits } = decoder;
  const own = (name: string) => `${names.layers}.${layer}.${name}`;
  const { heads, keyValueHeads, headSize } = scope.config.layers[layer];
  const project = (name: string, count: number) =>
    linear(scope, own(name), x, count * headSize, biases.queryKeyValue);
  const normHeads = (name: string, value: Value, count: number) => {
    if (!traits.queryKeyNorm) return value;
    if (traits.queryKeyNorm === 'all') return norm(scope, decoder, value, own(name));
    const split = reshape(value, [...value.shape.slice(0, 2), count, headSize]);
    return reshape(norm(scope, decoder, split, own(name)), value.shape);
  };
  const q = normHeads(names.queryNorm, project(names.query, heads), heads);
  const k = normHeads(names.keyNorm, project(names.key, keyValueHeads), keyValueHeads);
  const mixed = scope.attention(q, k, project(names.value, keyValueHeads), layer);
  return linear(scope, own(names.output), mixed, scope.config.hidden, biases.output);
}

function convolved(scope: Scope, { names, biases, traits }: Decoder, x: Value, layer: number): Value {
  const { input, kernel, output } = traits.mixers!.convolution;
  const own = (name: string) => `${names.layers}.${layer}.${name}`;
  const parts = { input: own(input), kernel: own(kernel), output: own(output) };
  return shortConvolution(scope, { names: parts, biased: biases.convolution === true }, x, layer);
}

/** One feed-forward, or a mixture of several. */
function feedForwards(scope: Scope, decoder: Decoder, x: Value, layer: number): Value {
  const { names, traits } = decoder;
  const { experts, intermediate } = scope.config.layers[layer];
  const name = partName(`${names.layers}.${layer}`, names.feedForward);
  if (!experts) return feedForward(scope, decoder, x, { name, width: intermediate });
  const scores = scope.linear(`${name}.${traits.mixtures!.router}`, x, experts.count);
  return mixture(x, scores, experts, (sent, index) =>
    feedForward(scope, decoder, sent, { name: `${name}.experts.${index}`, width: intermediate }),
  );
}

function feedForward(
  scope: Scope,
  { names, biases, activation, traits }: Decoder,
  x: Value,
  { name, width }: { readonly name: string; readonly width: number },
): Value {
  const project = (part: string) => linear(scope, `${name}.${part}`, x, width, biases.feedForward);
  const inner =
    traits.gated === false
      ? activate(project(names.up), activation)
      : mul(activate(project(names.gate), activation), project(names.up));
  return linear(scope, `${name}.${names.down}`, inner, scope.config.hidden, biases.feedForward);
}

function activate(x: Value, activation: Activation): Value {
  if (activation === 'silu') return silu(x);
  if (activation === 'relu') return relu(x);
  return gelu(x, activation === 'gelu' ? 'erf' : 'tanh');
}

/** Of what a layer has under a name, or has itself. */
export const partName = (layer: string, name: string | undefined): string =>
  name === undefined ? layer : `${layer}.${name}`;

function linear(scope: Scope, name: string, x: Value, width: number, biased: boolean): Value {
  return scope.linear(name, x, width, biased ? `${name}.bias` : undefined);
}
